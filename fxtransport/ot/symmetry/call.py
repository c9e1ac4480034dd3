"""One call of an operation, with labels in place of numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fxtransport.ot.symmetry.labels import Labeled, fix, squeezed
from fxtransport.ot.symmetry.units import Ids, Units


@dataclass(frozen=True)
class Call:
    """One call of an operation.

    Attributes:
        units: The units.
        func: The operation, an ``OpOverload``.
        args: Its arguments, with :class:`Labeled` in place of tensors.
        kwargs: Its keyword arguments.
        returned: What it returned.
    """

    units: Units
    func: Any
    args: Sequence[Any]
    kwargs: dict[str, Any]
    returned: Any

    @property
    def name(self) -> str:
        """The name of the operation, without ``aten::``."""
        name: str = self.func._schema.name.partition("::")[2]
        return name.removesuffix("_copy")

    @property
    def named(self) -> dict[str, Any]:
        """All arguments by name."""
        names = [argument.name for argument in self.func._schema.arguments]
        return dict(zip(names, self.args, strict=False)) | self.kwargs

    @property
    def tensors(self) -> list[Labeled]:
        """All labeled tensors among the arguments."""
        return tensors_in(*self.args, *self.kwargs.values())

    def wrapped(
        self, returned: Any, labels: Sequence[Ids], given: Sequence[Labeled] | None = None
    ) -> Any:
        """A tensor that was returned, with labels; of several, the first has them.

        Args:
            returned: What was returned.
            labels: Its labels.
            given: What it was computed from; by default all arguments.
        """
        sources = self.tensors if given is None else given
        if isinstance(returned, Tensor):
            kept = [squeezed(self.units, label) for label in labels]
            kept = [label for label in kept if label.any()]
            depends, owned = any(x.depends for x in sources), any(x.owned for x in sources)
            return Labeled(returned, tuple(kept), depends, owned)
        if isinstance(returned, list | tuple):
            first, *others = returned
            rest = [self.wrapped(each, (), sources) for each in others]
            return [self.wrapped(first, labels, sources), *rest]
        return returned

    def unknown(self) -> Any:
        """What was returned, of which nothing is known: all that it read keeps its order."""
        fix(self.units, *self.tensors)
        return self.wrapped(self.returned, ())


def tensors_in(*values: Any) -> list[Labeled]:
    """All labeled tensors among arguments."""
    found = []
    for value in values:
        if isinstance(value, Labeled):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += tensors_in(*value)
    return found
