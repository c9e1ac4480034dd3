"""Maps, tokens and vectors as the activations of neurons."""

import pytest
import torch

from fxtransport.errors import UsageError
from fxtransport.objectives.neurons import (
    activations_of,
    check_pool,
    parse_pool,
    positions_of,
    spread_positions,
)


def test_maps_and_tokens_are_averaged() -> None:
    images, tokens = torch.randn(3, 5, 4, 2), torch.randn(3, 8, 5)
    torch.testing.assert_close(activations_of(images, 1, "mean"), images.mean((2, 3)))
    torch.testing.assert_close(activations_of(images, 3, "mean"), images.mean((1, 2)))
    torch.testing.assert_close(activations_of(tokens, 2, "mean"), tokens.mean(1))


def test_vectors_stay_as_they_are() -> None:
    vectors = torch.randn(3, 5)
    for pool in ("mean", "none", 4):
        assert activations_of(vectors, 1, pool) is vectors


def test_each_position_is_a_sample() -> None:
    images = torch.randn(3, 5, 4, 2)
    found = activations_of(images, 1, "none")
    assert found.shape == (3, 8, 5)
    assert torch.equal(found[1, 3], images[1, :, 1, 1])


def test_sampled_positions_are_at_the_same_places_of_any_map() -> None:
    """A smooth image in two resolutions is sampled alike."""
    small, large = (
        torch.stack(torch.meshgrid(*[(torch.arange(n) + 0.5) / n] * 2, indexing="ij"))[None]
        for n in (8, 32)
    )
    one, other = (activations_of(image, 1, 9) for image in (small, large))
    assert one.shape == (1, 9, 2)
    assert (one - other).abs().max() < 1 / 8


@pytest.mark.parametrize("sizes", [(7,), (14, 14), (4, 8), (3, 3, 3)])
@pytest.mark.parametrize("count", [1, 2, 6])
def test_sampled_positions_differ_and_lie_in_the_map(sizes: tuple[int, ...], count: int) -> None:
    found = spread_positions(sizes, count)
    assert len(set(found)) == count
    assert 0 <= min(found) <= max(found) < torch.Size(sizes).numel()


def test_sampled_positions_are_spread() -> None:
    """Every quarter of a map has its share of 16."""
    found = torch.tensor(spread_positions((16, 16), 16))
    rows, columns = found // 16, found % 16
    for bottom in (rows < 8, rows >= 8):
        for right in (columns < 8, columns >= 8):
            assert 3 <= int((bottom & right).sum()) <= 5


def test_half_precision_becomes_single() -> None:
    assert activations_of(torch.randn(2, 3, 4, 4).bfloat16(), 1, "mean").dtype == torch.float32
    assert activations_of(torch.randn(2, 3).double(), 1, "mean").dtype == torch.float64


def test_positions_are_all_but_the_channels() -> None:
    assert positions_of((7, 5, 3), 3) == (7, 5)
    assert positions_of((9,), 1) == ()


def test_more_positions_than_there_are() -> None:
    with pytest.raises(UsageError, match="takes 16 positions of a layer that has 16"):
        activations_of(torch.zeros(2, 3, 4, 4), 1, 16)


@pytest.mark.parametrize("pool", ["max", 0, -1, 1.5, True, None])
def test_other_ways_to_pool(pool: object) -> None:
    with pytest.raises(UsageError, match="pool is 'mean', 'none' or a number of positions"):
        check_pool(pool)  # type: ignore[arg-type]


def test_a_way_to_pool_from_its_text() -> None:
    assert [parse_pool(text) for text in ("mean", "none", "4")] == ["mean", "none", 4]
    with pytest.raises(UsageError, match="not 'four'"):
        parse_pool("four")
