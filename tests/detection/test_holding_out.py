import numpy as np
import pytest

from fxtransport.detection.holding_out import HeldOut, hold_out
from fxtransport.detection.observations import Observations
from fxtransport.errors import UsageError


def images(names: list[str], sources: list[str] | None = None) -> Observations:
    return Observations(
        {"logits": np.zeros((len(names), 1))}, tuple(names), tuple(sources or names)
    )


def unnamed(count: int) -> Observations:
    return Observations({"logits": np.zeros((count, 1))})


def parts(held: HeldOut) -> list[list[int]]:
    found = (held.clean, held.attacked, held.held_clean, held.held_attacked)
    return [rows.tolist() for rows in found]


def test_what_is_made_of_an_image_goes_with_it() -> None:
    """Ten images, a noisy copy of each, and attacks on seven of them, in another order."""
    names = [f"image {at}" for at in range(10)]
    clean = images([*names, *(f"noisy {name}" for name in names)], names * 2)
    sources = names[::-1][:7]
    attacked = images([f"attacked {name}" for name in sources], sources)
    for seed in range(20):
        held = hold_out(clean, attacked, 0.3, seed)
        fitted = {clean.sources[row] for row in held.clean}
        other = {clean.sources[row] for row in held.held_clean}
        assert len(other) == 3
        assert len(held.held_clean) == 6
        assert not fitted & other
        assert {attacked.sources[row] for row in held.attacked} <= fitted
        assert {attacked.sources[row] for row in held.held_attacked} <= other
        first, second, third, fourth = parts(held)
        assert sorted(first + third) == list(range(20))
        assert sorted(second + fourth) == list(range(7))


def test_attacked_images_of_other_images() -> None:
    held = hold_out(images(list("abcdefghij")), images(list("klmnopqrst")), 0.2, 0)
    assert [len(rows) for rows in parts(held)] == [8, 8, 2, 2]


def test_sets_that_nobody_knows_the_sources_of() -> None:
    held = hold_out(unnamed(50), unnamed(10), 0.2, 0)
    assert [len(rows) for rows in parts(held)] == [40, 8, 10, 2]
    assert [len(rows) for rows in parts(hold_out(unnamed(50), None, 0.2, 0))] == [40, 0, 10, 0]


def test_seeds_repeat() -> None:
    again = [parts(hold_out(unnamed(50), unnamed(50), 0.2, seed)) for seed in (1, 1, 2)]
    assert again[0] == again[1]
    assert again[0] != again[2]


def test_nothing_is_held_out_of_a_share_of_0() -> None:
    assert [len(rows) for rows in parts(hold_out(unnamed(3), unnamed(2), 0, 0))] == [3, 2, 0, 0]


@pytest.mark.parametrize("share", [1, 1.5, -0.1, float("nan")])
def test_shares_that_are_refused(share: float) -> None:
    with pytest.raises(UsageError, match="from 0 to below 1"):
        hold_out(unnamed(10), None, share, 0)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images(count: int) -> None:
    with pytest.raises(UsageError, match=f"{count} clean images are too few"):
        hold_out(unnamed(count), None, 0.2, 0)
