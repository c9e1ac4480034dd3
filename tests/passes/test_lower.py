"""Generated code: what crosses a cut is what the next part is given."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxtransport import transportify
from fxtransport.errors import PartitionError
from tests.compiling import assert_identical


class Block(nn.Module):
    """A residual block that returns a tuple, as those of transformers do."""

    def __init__(self, *, residual: bool) -> None:
        super().__init__()
        self.linear, self.residual = nn.Linear(8, 8), residual

    def forward(self, x: Tensor) -> Any:
        y = self.linear(x).relu()
        return (x + y if self.residual else y,)


class Closed(nn.Module):
    """The tuple comes out of a module that is not opened."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Any:
        return (self.linear(x).relu(),)


class Tuples(nn.Module):
    """Blocks that return tuples, read before or after the next."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        of = {"opened": lambda: Block(residual=True), "closed": Closed}
        self.blocks = nn.ModuleList(of.get(kind, Closed)() for _ in range(4))
        self.after = nn.ModuleList(Block(residual=True) for _ in range(4 * (kind == "both")))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Any:
        for i, block in enumerate(self.blocks):
            x = block(self.after[i](x)[0] if len(self.after) else x)[0]
        return self.head(x.mean(-2))


CUTS: list[dict[str, Any]] = [{"modules": 2}, {"cuts": ("blocks.0",)}, {"cuts": ("blocks.1",)}]


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("cuts", CUTS, ids=str)
@pytest.mark.parametrize("kind", ["opened", "closed", "both"])
def test_a_tuple_crosses_whole(kind: str, cuts: dict[str, Any], verify: bool) -> None:
    model = Tuples(kind)
    program = transportify(model, torch.zeros(2, 5, 8), head="none", verify=verify, **cuts)
    x = torch.randn(4, 5, 8)
    hidden: Any = x
    for part in program.parts:
        hidden = part(hidden).hidden
    assert len(program.parts) == 2
    assert_identical(hidden, model(x))
    assert_identical(program(x), model(x))


class Several(nn.Module):
    """Two tensors cross, or a dict of them."""

    def __init__(self, *, as_dict: bool) -> None:
        super().__init__()
        self.first, self.second = Block(residual=True), Block(residual=True)
        self.as_dict = as_dict

    def forward(self, x: Tensor) -> Any:
        [y] = self.first(x)
        state = {"x": x, "y": y} if self.as_dict else (x, y)
        [z] = self.second(state["y"] if isinstance(state, dict) else state[1])
        return z * (state["x"] if isinstance(state, dict) else state[0])


@pytest.mark.parametrize("as_dict", [True, False])
def test_several_tensors_cross(as_dict: bool) -> None:
    model = Several(as_dict=as_dict)
    program = transportify(model, torch.zeros(2, 8), head="none", cuts=("first",))
    x = torch.randn(4, 8)
    hidden: Any = program.parts[0](x).hidden
    assert_identical(program.parts[1](hidden).hidden, model(x))


class HandsOn(nn.Module):
    """Gives a module whose code is in the graph to a function that calls it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.stem, self.head, self.kind = nn.Linear(8, 8), nn.Linear(8, 3), kind
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(4))

    def forward(self, x: Tensor) -> Any:
        x, first = self.stem(x), self.blocks[0]
        match self.kind:
            case "a module":
                x = torch.vmap(first)(x)
            case "in eval mode":
                x = x if self.training else torch.vmap(first)(x)
            case "a closure":
                x = torch.vmap(lambda row: first(row) * 2)(x)
            case "itself":
                x = torch.vmap(lambda row: self.blocks[0](row) * 2)(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


@pytest.mark.parametrize("kind", ["a module", "in eval mode", "a closure"])
def test_a_part_owns_the_modules_that_it_hands_on(kind: str) -> None:
    model = HandsOn(kind)
    x = torch.randn(3, 8)
    program = transportify(model, x, modules=2, head="none")
    for training in (True, False):
        program.train(training)
        hidden: Any = x
        for part in program.parts:
            hidden = part(hidden).hidden
        assert_identical(hidden, model.train(training)(x))


def test_a_model_that_hands_itself_on_is_not_cut() -> None:
    """The remedy is to name what the function uses, or not to cut."""
    model, x = HandsOn("itself"), torch.randn(3, 8)
    with pytest.raises(PartitionError, match=r"HandsOn\) hands itself.*layer = self\.layer"):
        transportify(model, x, modules=2)
    assert_identical(transportify(model, x)(x), model(x))
    transportify(HandsOn("a closure"), x, modules=2)


class Widening(nn.Module):
    """A projection block in which a cut may fall."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.last, self.shortcut = nn.Linear(8, 6), nn.Linear(6, 6), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.shortcut(x)
        return skip + self.last(self.body(x).relu())


def test_a_block_is_not_parted_from_its_input() -> None:
    net, x = nn.Sequential(nn.Linear(8, 8), Widening(), nn.Linear(6, 3)), torch.zeros(2, 8)
    assert len(transportify(net, x, cuts=("1.body",), verify=False).parts) == 2
    with pytest.raises(PartitionError, match="part 1 lies inside the residual block that ends in"):
        transportify(net, x, cuts=("1.body",), projection_inputs=True)
    assert len(transportify(net, x, cuts=("0",), projection_inputs=True).parts) == 2
