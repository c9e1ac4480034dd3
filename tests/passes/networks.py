"""Random networks of residual and other blocks, as strategies of hypothesis."""

from collections.abc import Callable, Sequence

import torch
from hypothesis import strategies as st
from torch import nn

from tests.passes.blocks import Activation, Block, Known, Noise, Recipe, Scale, Skip, Spelling
from tests.passes.more_blocks import (
    Affine,
    Around,
    CountingResidual,
    Dense,
    Plain,
    Repeated,
    RunningMean,
    Sliced,
    Slicing,
    Streams,
    SumOfConvolutions,
    Tokens,
)

Maker = Callable[[], Block]
"""Makes a block with weights of its own, at random."""
OUT_OF_PLACE = tuple(s for s in Spelling if s is not Spelling.ONTO_SKIP)


class Network(nn.Sequential):
    """Blocks in a row."""

    def known(self) -> Known:
        """The path and kind of every tapped addition, in execution order."""
        return [found for name, block in self.named_children() for found in block.known(name)]


def recipes(depth: int = 2, skips: Sequence[Skip] = tuple(Skip)) -> st.SearchStrategy[Recipe]:
    """Residual blocks, with others inside their branches down to a depth."""
    same_size = [skip for skip in Skip if skip.stride == 1]
    none: st.SearchStrategy[tuple[Recipe, ...]] = st.just(())
    inside = st.lists(recipes(depth - 1, same_size), max_size=2).map(tuple) if depth else none
    return st.builds(
        Recipe,
        skip=st.sampled_from(skips),
        spelling=st.sampled_from(Spelling),
        noise=st.sampled_from(Noise),
        scale=st.sampled_from(Scale),
        activation=st.sampled_from(Activation),
        pre_activation=st.booleans(),
        parallel=st.integers(0, 2),
        inside=none | inside,
    )


def residual() -> st.SearchStrategy[Maker]:
    """Makers of a plain residual block."""
    return recipes().map(lambda recipe: recipe.build)


@st.composite
def sliced(draw: st.DrawFn) -> Maker:
    slicing, whole = draw(st.sampled_from(Slicing)), draw(st.booleans())
    spelling = draw(st.sampled_from(OUT_OF_PLACE))
    return lambda: Sliced(slicing, spelling, whole)


@st.composite
def tokens(draw: st.DrawFn) -> Maker:
    spelling, noise = draw(st.sampled_from(Spelling)), draw(st.booleans())
    return lambda: Tokens(spelling, noise)


@st.composite
def around(draw: st.DrawFn, inner: st.SearchStrategy[Maker]) -> Maker:
    makers, spelling = (
        draw(st.lists(inner, min_size=1, max_size=2)),
        draw(st.sampled_from(Spelling)),
    )
    return lambda: Around([make() for make in makers], spelling)


@st.composite
def repeated(draw: st.DrawFn, inner: st.SearchStrategy[Maker]) -> Maker:
    make, times = draw(inner), draw(st.integers(2, 3))
    return lambda: Repeated(make(), times)


@st.composite
def streams(
    draw: st.DrawFn, one_: st.SearchStrategy[Maker], other_: st.SearchStrategy[Maker]
) -> Maker:
    one, other = draw(one_), draw(other_)
    return lambda: Streams(one(), other())


def residual_blocks() -> st.SearchStrategy[Maker]:
    """Makers of blocks with one residual addition or more."""
    single = residual() | sliced() | tokens() | st.just(CountingResidual)
    return (
        single | around(single | others()) | repeated(single) | streams(single, single | others())
    )


def others() -> st.SearchStrategy[Maker]:
    """Makers of blocks without any."""
    return st.sampled_from([Affine, Dense, Plain, RunningMean, SumOfConvolutions])


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """A few blocks, at least one of them residual."""
    makers = draw(st.lists(residual_blocks() | others(), max_size=3))
    makers.insert(draw(st.integers(0, len(makers))), draw(residual_blocks()))
    torch.manual_seed(0)
    return Network(*(make() for make in makers))
