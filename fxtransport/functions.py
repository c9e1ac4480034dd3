"""Functions and classes of the model's own code that a graph calls, or hands on."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from types import CellType, CodeType, FunctionType
from typing import Any, Self

import torch


class Constant:
    """A function or class that a graph hands on.

    Args:
        value: What is handed on.
    """

    def __init__(self, value: Any) -> None:
        self.value = value
        # generated code calls it by this name
        name = getattr(value, "__name__", type(value).__name__)
        self.__name__ = self.__qualname__ = re.sub(r"\W", "_", name)

    def __call__(self) -> Any:
        """What is handed on."""
        return self.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and bool(other.value == self.value)

    def __hash__(self) -> int:
        return hash(self.__name__)


class Applied:
    """The ``apply`` of an autograd function.

    Args:
        function: The class.
    """

    def __init__(self, function: type[torch.autograd.Function]) -> None:
        self.function = function
        # generated code calls it by this name
        self.__name__ = self.__qualname__ = function.__name__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function returns."""
        return self.function.apply(*args, **kwargs)


@cache
def apply_function(function: type[torch.autograd.Function]) -> Applied:
    """The same object for the same function, so that nodes of two graphs compare equal."""
    return Applied(function)


class Scripted:
    """A function that ``torch.jit.script`` made.

    Args:
        function: The function.
    """

    def __init__(self, function: Any) -> None:
        self.function = function
        # generated code calls it by this name
        self.__name__ = self.__qualname__ = str(function.name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function returns."""
        return self.function(*args, **kwargs)


@cache
def call_script(function: Any) -> Scripted:
    """The same object for the same function, so that nodes of two graphs compare equal."""
    return Scripted(function)


@dataclass(frozen=True)
class Code:
    """A Python function without the variables of the code around it."""

    code: CodeType
    name: str
    defaults: tuple[Any, ...] | None
    keyword_defaults: tuple[tuple[str, Any], ...]
    globals: dict[str, Any] = field(compare=False, repr=False)

    @classmethod
    def of(cls, function: FunctionType) -> Self:
        """That of a function."""
        keyword_defaults = tuple((function.__kwdefaults__ or {}).items())
        parts = (function.__code__, function.__name__, function.__defaults__)
        return cls(*parts, keyword_defaults, function.__globals__)

    def with_variables(self, variables: tuple[Any, ...]) -> Any:
        """The function, given the object that it is a method of, if any, and its variables."""
        split = len(variables) - len(self.code.co_freevars)
        bound, cells = variables[:split], tuple(map(CellType, variables[split:]))
        made = FunctionType(self.code, self.globals, self.name, self.defaults, cells)
        made.__kwdefaults__ = dict(self.keyword_defaults)
        return made.__get__(bound[0]) if bound else made


class Transformed:
    """A transform of ``torch.func`` of a function that reads variables of the code around it.

    Args:
        transform: Takes a function and its arguments.
        code: The function; None if the first variable is what is transformed.
    """

    def __init__(self, transform: Callable[..., Any], code: Code | None) -> None:
        self.transform = transform
        self.code = code
        # generated code calls it by this name
        self.__name__ = self.__qualname__ = transform.__name__

    def __call__(self, variables: tuple[Any, ...], *args: Any, **kwargs: Any) -> Any:
        """What the transformed function returns.

        Args:
            variables: What the function reads of the code around it; before that, the object
                that it is a method of.
            args: The arguments of the transform.
            kwargs: Its keyword arguments.
        """
        code = self.code
        function = variables[0] if code is None else code.with_variables(variables)
        return self.transform(function, *args, **kwargs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Transformed) and other.code == self.code

    def __hash__(self) -> int:
        return hash(self.__name__)
