"""What crosses a cut, as an auxiliary head sees it."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from torch import fx

from fxtransport.analysis.layouts import LayoutFinder
from fxtransport.errors import UsageError
from fxtransport.ir import Boundary, Layout, Shapes
from fxtransport.outputs import LOGITS, find_logits
from fxtransport.unit import Unit

_MAP_DIMS = (1, 2, 3)
_DTYPES = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class Hidden:
    """A tensor at a cut that a head can read: floating-point, a row for each sample."""

    node: str
    """The node that computes it."""
    position: int
    """Its position in the hidden state."""
    shape: tuple[int, ...]
    layout: Layout
    dtype: str
    """The name after ``torch.``."""

    @property
    def channels(self) -> int:
        """How many channels it has."""
        return self.shape[1 if self.layout is Layout.CHANNELS_FIRST else -1]

    @property
    def positions(self) -> tuple[int, ...]:
        """The sizes of its other dimensions, without the batch."""
        return self.shape[2:] if self.layout is Layout.CHANNELS_FIRST else self.shape[1:-1]

    @property
    def is_map(self) -> bool:
        """Whether it can be convolved over; B×N×C are tokens, not a map."""
        dims = len(self.positions)
        return dims in _MAP_DIMS and (dims > 1 or self.layout is Layout.CHANNELS_FIRST)


def hidden_at(unit: Unit, cut: Boundary, finder: LayoutFinder) -> list[Hidden]:
    """The tensors at a cut that a head can read: those of the first one's dtype."""
    shapes = unit.fact(Shapes)
    found: list[Hidden] = []
    for position, name in enumerate(cut.crossing):
        spec = shapes.specs.get(name)
        if name not in cut.tensors or spec is None or spec.dtype not in _DTYPES:
            continue
        if len(spec.shape) < 2 or spec.shape[0] != shapes.batch_size:
            continue
        layout = finder.layout(name, spec.shape)
        found.append(Hidden(name, position, spec.shape, layout, spec.dtype))
    return [hidden for hidden in found if hidden.dtype == found[0].dtype]


def count_classes(unit: Unit) -> int:
    """The number of classes of a model that returns logits, B×classes.

    Raises:
        UsageError: the model returns something else.
    """
    found = find_logits_node(unit.traced(), unit.fact(Shapes))
    spec = None if found is None else unit.fact(Shapes).specs[found.name]
    if spec is None or len(spec.shape) != 2:
        what = f"several values, and no tensor named {' or '.join(LOGITS)}"
        if spec is not None:
            what = f"{'×'.join(map(str, spec.shape))}, not logits"
        raise UsageError(
            f"auxiliary heads need a number of classes, and {type(unit.model).__name__} "
            f'returns {what}: give num_classes, or leave the heads out (head="none")'
        )
    return spec.shape[1]


def find_logits_node(graph: fx.Graph, shapes: Shapes) -> fx.Node | None:
    """The node that computes what :func:`fxtransport.outputs.find_logits` finds."""

    def is_value(value: Any) -> bool:
        return isinstance(value, fx.Node) and value.name in shapes.specs

    returned = graph.output_node().args[0]
    if isinstance(returned, fx.Node) and not is_value(returned):
        # the call of a class, such as a dataclass or OrderedDict
        returned = returned.kwargs or _positional(returned)
    found = find_logits(returned, is_value)
    return found if isinstance(found, fx.Node) else None


def _positional(call: fx.Node) -> Any:
    """What a class is made of, by name where it says the names."""
    names = getattr(call.target, "_fields", None)
    if call.target is OrderedDict and call.args:
        return dict(call.args[0])  # type: ignore[arg-type]
    return call.args if names is None else dict(zip(names, call.args, strict=False))
