"""Random residual networks, built with a known answer, are found out and rebuilt exactly."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import DropPath
from torch import Tensor, nn

from fxtransport.ir import Kind, PartitionPlan, Residuals
from fxtransport.passes.base import Unit
from fxtransport.passes.lower import Lowered
from fxtransport.passes.verify import run_chain
from tests.compiling import assert_identical, compiled, forward, original, outcome, transport

SHAPE = (4, 8, 8)
ByHand = tuple[Tensor, list[Tensor]]
"""What a block returns, and its residues, computed out of place."""


class Skip(StrEnum):
    """What is added to the branch."""

    INPUT = auto()
    MODULE = auto()  # nn.Identity
    BATCH_NORM = auto()
    CONVOLUTION = auto()
    STRIDED = auto()
    POOL = auto()

    @property
    def kind(self) -> Kind:
        match self:
            case Skip.INPUT | Skip.MODULE:
                return Kind.IDENTITY
            case Skip.BATCH_NORM:
                return Kind.IDENTITY_BN
        return Kind.PROJECTION

    @property
    def stride(self) -> int:
        return 2 if self in (Skip.STRIDED, Skip.POOL) else 1

    def module(self) -> nn.Module | None:
        match self:
            case Skip.INPUT:
                return None
            case Skip.MODULE:
                return nn.Identity()
            case Skip.BATCH_NORM:
                return nn.BatchNorm2d(4)
            case Skip.POOL:
                return nn.AvgPool2d(2, ceil_mode=True)
        return nn.Conv2d(4, 4, 1, self.stride)


class Spelling(StrEnum):
    """How the sum is written."""

    SKIP_FIRST = auto()
    BRANCH_FIRST = auto()
    FUNCTION = auto()
    AUGMENTED = auto()  # branch += skip
    METHOD = auto()  # branch.add_(skip)
    ONTO_SKIP = auto()  # skip += branch


class Noise(StrEnum):
    """What the branch is dropped by."""

    NONE = auto()
    FUNCTION = auto()  # follows the training flag of the block
    PATH = auto()


@dataclass(frozen=True)
class Recipe:
    """A residual block in words."""

    skip: Skip
    spelling: Spelling
    noise: Noise
    pre_activation: bool
    activation: bool
    parallel: bool
    inside: "Recipe | None"

    def build(self) -> "Residual":
        return Residual(self)


class Residual(nn.Module):
    """A residual block after a recipe."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        stride = recipe.skip.stride
        self.norm, self.relu = nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, stride, 1), nn.ReLU(inplace=True))
        if recipe.inside is not None:
            self.body.append(Residual(recipe.inside))
        self.body.append(nn.Conv2d(4, 4, 3, padding=1))
        self.shortcut = recipe.skip.module()
        self.drop = DropPath(0.5) if recipe.noise is Noise.PATH else None
        self.second = None
        if recipe.parallel:
            self.second = nn.Sequential(nn.Conv2d(4, 4, 1, stride), nn.Sigmoid())

    def dropped(self, branch: Tensor) -> Tensor:
        if self.recipe.noise is Noise.FUNCTION:
            return F.dropout(branch, 0.5, self.training)
        return branch if self.drop is None else self.drop(branch)

    def forward(self, x: Tensor) -> Tensor:
        start = self.relu(self.norm(x)) if self.recipe.pre_activation else x
        skip = x
        if self.shortcut is not None:
            skip = self.shortcut(start if self.recipe.skip.kind is Kind.PROJECTION else x)
        branch = self.dropped(self.body(start))
        others = [] if self.second is None else [self.second(start)]
        total = self.summed(skip, branch, others)
        return self.relu(total) if self.recipe.activation else total

    def summed(self, skip: Tensor, branch: Tensor, others: Sequence[Tensor]) -> Tensor:
        match self.recipe.spelling:
            case Spelling.SKIP_FIRST:
                for term in (branch, *others):
                    skip = skip + term
                return skip
            case Spelling.ONTO_SKIP:
                for term in (branch, *others):
                    skip += term
                return skip
        for term in (*others, skip):
            match self.recipe.spelling:
                case Spelling.BRANCH_FIRST:
                    branch = branch + term
                case Spelling.FUNCTION:
                    branch = torch.add(branch, term)
                case Spelling.AUGMENTED:
                    branch += term
                case Spelling.METHOD:
                    branch.add_(term)
        return branch

    def by_hand(self, x: Tensor) -> ByHand:
        start = self.norm(x).relu() if self.recipe.pre_activation else x
        skip = x
        if self.shortcut is not None:
            skip = self.shortcut(start if self.recipe.skip.kind is Kind.PROJECTION else x)
        hidden, residues = self.body[0](start).relu(), list[Tensor]()
        if self.recipe.inside is not None:
            hidden, residues = self.body[2].by_hand(hidden)
        branches = [self.dropped(self.body[-1](hidden))]
        if self.second is not None:
            branches.append(self.second(start))
        total = skip + sum(branches)
        return total.relu() if self.recipe.activation else total, [*residues, sum(branches)]

    def known(self, path: str) -> list[tuple[str, Kind]]:
        """The path and kind of every addition, in execution order."""
        inside = [] if self.recipe.inside is None else self.body[2].known(f"{path}.body.2")
        return [*inside, (path, self.recipe.skip.kind)]


class NotResidual(nn.Module):
    """Blocks that have no residual, and may look as if they had."""

    def by_hand(self, x: Tensor) -> ByHand:
        return self(x), []

    def known(self, path: str) -> list[tuple[str, Kind]]:
        return []


class Plain(NotResidual):
    """A convolution with norm and activation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).relu_()


class SumOfConvolutions(NotResidual):
    """Parallel convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = self.wide(x)
        out += self.narrow(x)
        return out.relu()


class Affine(NotResidual):
    """Scale and shift."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.randn(4, 1, 1)), nn.Parameter(torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.bias[: x.shape[-1]]


def recipes(
    skips: Sequence[Skip], spellings: Sequence[Spelling], inside: st.SearchStrategy[Any]
) -> st.SearchStrategy[Recipe]:
    return st.builds(
        Recipe,
        skip=st.sampled_from(skips),
        spelling=st.sampled_from(spellings),
        noise=st.sampled_from(Noise),
        pre_activation=st.booleans(),
        activation=st.booleans(),
        parallel=st.booleans(),
        inside=inside,
    )


Blocks = list[Recipe | type[NotResidual]]


@st.composite
def networks(draw: st.DrawFn, spellings: Sequence[Spelling] = tuple(Spelling)) -> Blocks:
    """A few blocks, at least one of them residual."""
    inside = recipes([skip for skip in Skip if skip.stride == 1], spellings, st.none())
    residual = recipes(list(Skip), spellings, st.none() | inside)
    negative = st.sampled_from([Plain, SumOfConvolutions, Affine])
    blocks: Blocks = draw(st.lists(residual | negative, max_size=4))
    blocks.insert(draw(st.integers(0, len(blocks))), draw(residual))
    return blocks


def build(blocks: Blocks) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(b.build() if isinstance(b, Recipe) else b() for b in blocks))


def known(model: nn.Sequential) -> list[tuple[str, Kind]]:
    return [found for name, block in model.named_children() for found in block.known(name)]


def by_hand(model: nn.Sequential, x: Tensor) -> ByHand:
    residues = []
    for block in model:
        x, found = block.by_hand(x)
        residues += found
    return x, residues


def assert_same_numbers(unit: Unit) -> None:
    """The output and the buffers after it are the model's, the residues those by hand."""
    x = torch.randn(3, *SHAPE)
    for training in (True, False):
        expected = outcome(original, unit.model, x, training=training)
        assert_identical(outcome(forward(unit), unit.model, x, training=training), expected)
        (output, residues), buffers = outcome(transport(unit), unit.model, x, training=training)
        assert_identical((output, buffers), expected)
        (_, hand), _ = outcome(by_hand, unit.model, x, training=training)
        torch.testing.assert_close(residues, hand)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Tiny convolutions wait longer for a second thread than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@settings(max_examples=60)
@given(networks())
def test_additions_are_found_exactly(blocks: Blocks) -> None:
    model = build(blocks)
    found = compiled(model, *SHAPE).fact(Residuals).tapped
    assert [(r.path, r.kind) for r in found] == known(model)


@settings(max_examples=30)
@given(networks())
def test_numbers_are_the_models(blocks: Blocks) -> None:
    assert_same_numbers(compiled(build(blocks), *SHAPE))


@settings(max_examples=30)
@given(networks(), st.data())
def test_modules_in_a_row_are_the_whole(blocks: Blocks, data: st.DataObject) -> None:
    model = build(blocks)
    assert_cut(model, data.draw(st.integers(1, len(known(model)))))


def test_additions_onto_the_skip_are_places_to_cut() -> None:
    onto_skip = Recipe(Skip.INPUT, Spelling.ONTO_SKIP, Noise.NONE, False, False, False, None)
    assert_cut(build([onto_skip] * 3), 3)


def assert_cut(model: nn.Sequential, modules: int) -> None:
    """A model can be cut into so many modules, which one behind the other compute its numbers."""
    unit = compiled(model, *SHAPE, modules=modules)
    lowered, plan = unit.fact(Lowered), unit.fact(PartitionPlan)
    assert len(lowered.modules) == modules
    assert sum(s.residuals for s in plan.segments) == len(known(model))
    x = torch.randn(3, *SHAPE)

    def chain(model: nn.Module, *inputs: Tensor) -> Any:
        return run_chain(model, lowered, inputs)

    for training in (True, False):
        expected = outcome(original, model, x, training=training)
        assert_identical(outcome(chain, model, x, training=training), expected)
