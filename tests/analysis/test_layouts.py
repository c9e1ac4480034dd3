"""Where the channels of a tensor are, found from what computes and reads it."""

from torch import Tensor, nn

from fxtransport.analysis.layouts import LayoutFinder
from fxtransport.ir import Origins, Recording
from tests.compiling import compiled


class Chain(nn.Module):
    """Additions in a row, each of which reads what the one before computed twice."""

    def __init__(self, depth: int = 60) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return x


def test_each_node_is_looked_at_once() -> None:
    """There are 2**60 ways back through the chain, and no value on them has this shape."""
    unit = compiled(Chain(), 4)
    finder = LayoutFinder(unit.traced(), unit.fact(Recording), unit.fact(Origins))
    last = next(n for n in reversed(unit.traced().nodes) if n.op == "call_function")
    assert finder.value_of(last, (5, 7, 9)) is None
    assert finder.value_of(last, (2, 4)) is not None
