"""Global generators: seeded, saved, restored, forked."""

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch

from fxtransport.randomness import (
    derived_seed,
    deterministic_algorithms,
    fork_rng,
    random_state,
    restore_random_state,
    seed_all,
)
from fxtransport.training.flatten import Flattened, unflatten

CPU = torch.device("cpu")


def draw() -> tuple[float, float, float, float]:
    """A number of every generator, two of NumPy's, which keeps one of a pair of normals."""
    numpy = np.random
    return random.random(), float(numpy.rand()), float(numpy.normal()), torch.rand(()).item()


def test_a_seed_is_of_all_generators() -> None:
    seed_all(3)
    first = draw()
    seed_all(3)
    assert draw() == first
    seed_all(4)
    assert all(a != b for a, b in zip(draw(), first, strict=True))


def test_a_state_is_restored_also_from_a_checkpoint() -> None:
    draw()
    state = random_state(CPU)
    expected = draw()
    restore_random_state(state, CPU)
    assert draw() == expected
    flat = Flattened(state)
    restore_random_state(unflatten(flat.tree, flat.tensors), CPU)
    assert draw() == expected


def test_a_fork_is_seeded_and_leaves_no_trace() -> None:
    seed_all(0)
    expected = draw()
    seed_all(0)
    inside = []
    for seed in (7, 7, 2**63 + 1):
        with fork_rng(seed):
            inside.append(draw())
    assert draw() == expected
    assert inside[0] == inside[1]
    assert inside[0] != inside[2]


@pytest.mark.parametrize("leave", [lambda: None, lambda: 1 / 0], ids=["at its end", "by an error"])
def test_deterministic_algorithms_are_for_a_while(leave: Callable[[], object]) -> None:
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    assert before[0] is False
    try:
        with deterministic_algorithms(True):
            assert torch.are_deterministic_algorithms_enabled()
            assert not torch.backends.cudnn.benchmark
            leave()
    except ZeroDivisionError:
        pass
    assert (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark) == before
    with deterministic_algorithms(False):
        assert not torch.are_deterministic_algorithms_enabled()


def test_seeds_are_derived_from_all_numbers_in_order() -> None:
    seeds = {derived_seed(*numbers) for numbers in [(0,), (0, 0), (0, 1), (1, 0), (1,), (0, 0, 0)]}
    assert len(seeds) == 6
    assert derived_seed(1, 2, 3) == derived_seed(1, 2, 3) < 2**64
