"""What budgets are made of."""

from types import SimpleNamespace
from typing import Any

import pytest

from fxtransport.errors import MemoryBudgetError
from fxtransport.fitting import CUDA_CONTEXT, fit_modules, reserve_of


def test_the_reserve_is_a_share_and_a_context() -> None:
    assert reserve_of(10**9, "cpu") == 30_000_000
    assert reserve_of(10**9, "cuda:1") == 30_000_000 + CUDA_CONTEXT


class Beside:
    """A planner whose predictions leave out what is held beside each partition."""

    training = SimpleNamespace(device="cpu")
    batch_size = 8
    checkpoints = recomputes = False
    checkpointing = recomputing = None
    plain = None
    end_to_end = SimpleNamespace(peak_bytes=200)

    def __init__(self, alone: list[int], beside: list[int]) -> None:
        self._alone, self._beside = alone, beside
        self.measured: list[int] = []

    def most(self) -> int:
        return len(self._alone) + 1

    def row(self, modules: int, _: Any) -> SimpleNamespace:
        peak = self._alone[modules - 2]
        return SimpleNamespace(modules=modules, cuts=(0,) * (modules - 1), peak_bytes=peak)

    def measure(self, cuts: tuple[int, ...]) -> SimpleNamespace:
        self.measured.append(len(cuts) + 1)
        number = len(cuts) - 1
        return SimpleNamespace(peak_bytes=self._alone[number] + self._beside[number])

    def flops_of(self, cuts: tuple[int, ...]) -> int:
        return len(cuts)

    def names(self, cuts: tuple[int, ...]) -> tuple[str, ...]:
        return tuple(map(str, cuts))


@pytest.mark.parametrize(
    ("beside", "fits", "measured"),
    [
        ([0, 0, 0, 0, 0], 2, [2]),
        # two parts say that nothing fits; six do, and then five
        ([60, 40, 35, 20, 10], 5, [2, 6, 3, 5, 4]),
        ([60, 60, 60, 60, 60], None, [2, 6]),
    ],
)
def test_what_a_teacher_takes_may_be_less_beside_more_parts(
    beside: list[int], fits: int | None, measured: list[int]
) -> None:
    planner: Any = Beside([90, 80, 70, 60, 50], beside)
    if fits is None:
        with pytest.raises(MemoryBudgetError, match="the least is"):
            fit_modules(planner, 103)
    else:
        assert fit_modules(planner, 103).modules == fits
    assert planner.measured == measured
