"""The arguments of a model's forward: how an example, and later a call, gives them."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from fxtransport.errors import UsageError

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Arguments:
    """Binds the arguments of a call as the model's forward does.

    Made once for a program: nothing is inspected when it runs.
    """

    model: str
    """The name of the model's class, for messages."""
    taken: tuple[str, ...]
    """The names of those that the program takes, in the order of its functions' inputs."""
    positional: tuple[str, ...]
    """The names of those that may be given by position, in order."""
    defaults: Mapping[str, Any] = field(compare=False, repr=False)
    """The values of those that may be left out."""
    plain: bool
    """Whether those that are taken come first, in order."""

    def __deepcopy__(self, memo: object) -> "Arguments":
        return self

    def bind(self, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, ...]:
        """The inputs of the program's functions, for a call of the model.

        Raises:
            UsageError: one is missing, is given twice, or is none that the program was
                compiled for.
        """
        if self.plain and not named and len(inputs) == len(self.taken):
            return inputs
        if len(inputs) > len(self.positional):
            raise UsageError(
                f"{self.model} takes {len(self.positional)} arguments by position "
                f"({', '.join(self.positional)}), and {len(inputs)} are given"
            )
        given = dict(zip(self.positional, inputs, strict=False))
        for name, value in named.items():
            if name in given:
                raise UsageError(f"{self.model} is given {name} twice, by position and by name")
            given[name] = value
        found = []
        for name in self.taken:
            if name not in given and name not in self.defaults:
                raise UsageError(f"{self.model} needs the argument {name}, which is missing")
            found.append(given.pop(name) if name in given else self.defaults[name])
        for name, value in given.items():
            if name not in self.defaults or not _same(value, self.defaults[name]):
                raise UsageError(
                    f"the program of {self.model} takes {', '.join(self.taken)}, and {name} is "
                    f"given: it was compiled without {name}; compile it again with "
                    f"example_inputs that name it"
                )
        return tuple(found)


def arguments_of(model: nn.Module, count: int, names: Sequence[str] | None) -> Arguments:
    """How a program of a model binds what it is called with.

    Args:
        model: The model.
        count: The number of inputs in the example.
        names: Their names, where they are given by name.
    """
    parameters = list(inspect.signature(model.forward).parameters.values())
    positional = [p.name for p in parameters if p.kind in _POSITIONAL]
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    if names is None:
        rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "")
        if rest:
            positional += [f"{rest}_{i}" for i in range(count - len(positional))]
        taken = tuple(positional[:count])
    else:
        taken = tuple(names)
    plain = tuple(positional[: len(taken)]) == taken
    return Arguments(type(model).__name__, taken, tuple(positional), defaults, plain)


def check_arguments(model: nn.Module, inputs: Sequence[Any], names: Sequence[str] | None) -> None:
    """See that a model's forward takes these arguments.

    Raises:
        UsageError: it does not.
    """
    signature = inspect.signature(model.forward)
    try:
        if names is None:
            signature.bind(*inputs)
        else:
            signature.bind(**dict(zip(names, inputs, strict=True)))
    except TypeError as error:
        parameters = ", ".join(map(_described, signature.parameters.values())) or "nothing"
        wrap = "; for one argument that is a dict, give [{...}]" if names is not None else ""
        raise UsageError(
            f"example_inputs do not fit {type(model).__name__}.forward, which takes {parameters}: "
            f"{error}{wrap}"
        ) from None


def in_order(model: nn.Module, named: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments given by name, in the order of a forward's signature."""
    order = {name: i for i, name in enumerate(inspect.signature(model.forward).parameters)}
    return dict(sorted(named.items(), key=lambda pair: order.get(pair[0], len(order))))


def by_name(model: nn.Module, inputs: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call, all by name."""
    bound = inspect.signature(model.forward).bind_partial(*inputs).arguments
    return {**bound, **named}


def _described(parameter: inspect.Parameter) -> str:
    stars = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}.get(parameter.kind.name, "")
    optional = "" if parameter.default is parameter.empty else "=..."
    return f"{stars}{parameter.name}{optional}"


def _same(value: Any, default: Any) -> bool:
    """Whether an argument is its default, as far as that can be seen without tensors."""
    if value is default:
        return True
    plain = isinstance(value, bool | int | float | str | tuple)
    return plain and type(value) is type(default) and bool(value == default)
