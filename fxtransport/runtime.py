"""What generated code calls while a program runs: guards, modes, and what measures residues."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

import torch

from fxtransport.errors import GuardError
from fxtransport.ir import Kind
from fxtransport.residue import Ends, Measure, Measures, Residue

Value = TypeVar("Value")


def guard(value: object, expected: object, where: str, attributes: str = "") -> None:
    """Refuse an input whose shape takes another path through the model, or an attribute.

    Args:
        value: What code decides by.
        expected: What it was for the example.
        where: The module and the line.
        attributes: Those that the value follows from; from sizes of inputs, too, if they end
            with a comma.

    Raises:
        GuardError: the value differs from that of the example the graph was built on.
    """
    if value != expected:
        if attributes:
            raise GuardError(_on_attributes(value, expected, where, attributes))
        what, found = ("a value", type(value).__name__) if expected is None else ("a number", value)
        raise GuardError(
            f"this program was compiled for inputs where {what} in {where} is {expected!r}, "
            f"and this input makes it {found}; compile again with an example of this shape"
        )


def _on_attributes(value: object, expected: object, where: str, attributes: str) -> str:
    names = attributes.removesuffix(",")
    also = "" if names == attributes else ", or with an example of this shape"
    return (
        f"{where} decides by {names}: what it asks was {expected!r} when the program was compiled "
        f"and is {value!r} now; compile again after changing {names}{also}"
    )


def guard_rank(value: torch.Tensor, expected: int, where: str) -> None:
    """Refuse an input of another number of dimensions.

    Raises:
        GuardError: it has more or fewer than the example.
    """
    if value.dim() != expected:
        raise GuardError(
            f"this program was compiled for an input of {expected} dimensions, on which {where} "
            f"decides, and this one has {value.dim()}; compile again with an example of this shape"
        )


def run_if(
    condition: bool, function: Callable[..., Value], *args: object, **kwargs: object
) -> Value | None:
    """What a function or module returns in one mode, and None in the other: it is not run."""
    return function(*args, **kwargs) if condition else None


class Conditional:
    """A function of a condition and the arguments of another, which it calls if that holds.

    Args:
        function: The other one.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        # generated code calls it by this name
        self.__name__ = self.__qualname__ = f"{function.__name__}_if"

    def __call__(self, condition: bool, *args: object, **kwargs: object) -> Any:
        """What the function returns, or None."""
        return run_if(condition, self.function, *args, **kwargs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Conditional) and other.function == self.function

    def __hash__(self) -> int:
        return hash(self.function)


def choose(training: bool, in_train: Value, in_eval: Value) -> Value:
    """One of two values, by a module's ``training`` flag."""
    return in_train if training else in_eval


def call_without_gradient(function: Callable[..., Value], *args: object, **kwargs: object) -> Value:
    """What a function or module returns, cut off from the graph of autograd."""
    with torch.no_grad():
        return function(*args, **kwargs)


def gradients_enabled() -> bool:
    """Whether gradients are computed where the program runs."""
    return torch.is_grad_enabled()


class WithoutGradient:
    """A function that the model calls under ``torch.no_grad``, so that its graph does, too.

    Args:
        function: The function.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        # generated code calls it by this name
        self.__name__ = self.__qualname__ = f"{function.__name__}_without_gradient"

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """What the function returns, cut off from the graph of autograd."""
        return call_without_gradient(self.function, *args, **kwargs)


@cache
def without_gradient(function: Callable[..., Any]) -> WithoutGradient:
    """The same object for the same function, so that nodes of two graphs compare equal."""
    return WithoutGradient(function)


def call_with_gradient(function: Callable[..., Value], *args: object, **kwargs: object) -> Value:
    """What a function or module returns, in the graph of autograd wherever the program runs."""
    with torch.enable_grad():
        return function(*args, **kwargs)


class WithGradient:
    """A function that the model calls under ``torch.enable_grad``, so that its graph does, too.

    Args:
        function: The function.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        # generated code calls it by this name
        self.__name__ = self.__qualname__ = f"{function.__name__}_with_gradient"

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """What the function returns, in the graph of autograd."""
        return call_with_gradient(self.function, *args, **kwargs)


@cache
def with_gradient(function: Callable[..., Any]) -> WithGradient:
    """The same object for the same function, so that nodes of two graphs compare equal."""
    return WithGradient(function)


GRADIENT_QUESTIONS = (gradients_enabled, with_gradient(gradients_enabled))
"""What asks whether gradients are computed: of the program, and where code switched them on."""


def add_out_of_place(branch: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """``branch += other`` without overwriting the branch; the dtype stays the branch's."""
    total = branch + other
    return total if total.dtype == branch.dtype else total.to(branch.dtype)


def of_blocks(measure: Measure | Measures | None) -> Measure | None:
    """What is to be measured of residual blocks."""
    return measure.residue if isinstance(measure, Measures) else measure


def measured(
    measure: Measure | Measures | None,
    kind: str,
    branches: tuple[torch.Tensor, ...],
    skip: torch.Tensor,
    output: torch.Tensor,
    kept: bool,
    activated: bool,
    start: torch.Tensor | None = None,
    channels: tuple[int, int] = (1, 1),
) -> torch.Tensor | None:
    """What is measured of a residual block; None if nothing is to be measured.

    Where the block's input is handed on, it is ``start``, and ``channels`` are the dimensions of
    its channels and of the output's.
    """
    measure = of_blocks(measure)
    if measure is None:
        return None
    ends = None if start is None else Ends(start, channels[0], output, channels[1])
    return measure(Residue(Kind(kind), branches, skip, output, kept, activated, ends))


def scaled(
    measure: Measure | Measures | None, value: torch.Tensor, factor: float
) -> torch.Tensor | None:
    """An operand with the sign and scale that the model adds it with, if it is to be measured."""
    return None if of_blocks(measure) is None else value * factor


def displaced(
    measure: Measure | Measures | None, total: torch.Tensor, skip: torch.Tensor
) -> torch.Tensor | None:
    """What was added to a skip, before the sum is overwritten, if it is to be measured."""
    return None if of_blocks(measure) is None else total - skip


def tapped(
    measure: Measure | Measures | None, name: str, value: torch.Tensor
) -> torch.Tensor | None:
    """What is measured of an activation that is tapped by name; None if nothing is."""
    if not isinstance(measure, Measures) or measure.activation is None:
        return None
    return measure.activation(name, value)


def copied(measure: Measure | Measures | None, value: torch.Tensor) -> torch.Tensor | None:
    """A copy of what the model overwrites before it is measured, if it is to be measured."""
    return None if measure is None else value.clone()


ITSELF = "extra_repr.__self__"
"""The attribute of every module that is the module itself: graphs can only read attributes."""


def assign(module: Any, name: str, value: object) -> None:
    """Write an attribute, as the model's code does."""
    setattr(module, name, value)


def agreed(*flags: bool) -> bool:
    """The mode of several modules, by which the model's code decides together.

    Raises:
        GuardError: some are in train mode and some are not.
    """
    if any(flags) != all(flags):
        raise GuardError(
            "the model's code decides by the modes of several modules together, and some of "
            "them are in train mode and some in eval mode; this program can run where they agree"
        )
    return flags[0]


def call_under_autocast(
    islands: Sequence[tuple[Any, ...]], function: Callable[..., Value], *args: Any, **kwargs: Any
) -> Value:
    """What a function or module returns in ``torch.autocast`` contexts, the outermost first.

    Args:
        islands: The arguments of each context.
        function: The function or module.
        args: Its arguments.
        kwargs: Its keyword arguments.
    """
    if not islands:
        return function(*args, **kwargs)
    # a compiler follows a with statement, and no stack of contexts
    device_type, dtype, enabled, cached = islands[0]
    with torch.autocast(device_type, dtype=dtype, enabled=enabled, cache_enabled=cached):
        return call_under_autocast(islands[1:], function, *args, **kwargs)


class UnderAutocast:
    """A function that the model calls in ``torch.autocast``, so that its graph does, too.

    Args:
        function: The function.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        # generated code calls it by this name
        self.__name__ = self.__qualname__ = f"{function.__name__}_under_autocast"

    def __call__(self, islands: Sequence[tuple[Any, ...]], *args: Any, **kwargs: Any) -> Any:
        """What the function returns."""
        return call_under_autocast(islands, self.function, *args, **kwargs)


@cache
def under_autocast(function: Callable[..., Any]) -> UnderAutocast:
    """The same object for the same function, so that nodes of two graphs compare equal."""
    return UnderAutocast(function)


def set_mode(module: Any, mode: bool) -> None:
    """Set the mode of a module, as the model's code does."""
    module.train(mode)
