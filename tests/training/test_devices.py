"""Tensors and programs on the device and in the memory format of the settings."""

import mmap
from pathlib import Path
from typing import Any

import pytest
import torch

from fxtransport.errors import UsageError
from fxtransport.objectives import lap
from fxtransport.training import (
    EpochReport,
    Observer,
    Parallel,
    Position,
    Sequential,
    StepReport,
    TrainerSettings,
    devices,
)
from fxtransport.training.devices import (
    move_program,
    move_to,
    peak_memory,
    program_device,
    reset_peak_memory,
)
from tests.training.runs import program_of, train_stream, trainer_of

CPU = torch.device("cpu")


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="the device 'cuda:77' cannot be used"):
        trainer_of(Parallel(1), device="cuda:77")


def test_a_device_without_values() -> None:
    with pytest.raises(UsageError, match="the device 'meta' cannot be used"):
        trainer_of(Parallel(1), device="meta")


def test_a_batch_moves_with_its_structure() -> None:
    images, classes = torch.randn(2, 3, 4, 5), torch.zeros(2, dtype=torch.int64)
    meta = torch.device("meta")
    found = move_to([images, (classes, images)], meta, channels_last=True)
    assert isinstance(found, tuple)
    assert isinstance(found[1], tuple)
    assert all(tensor.is_meta for tensor in (found[0], *found[1]))
    assert found[0].is_contiguous(memory_format=torch.channels_last)
    assert found[1][0].shape == (2,)


def test_a_program_moves_with_its_objective() -> None:
    program, objective = program_of(), lap(1, 1, 1)
    settings = TrainerSettings(device="cpu", channels_last=True)
    move_program(program, objective, settings)
    weight = program.get_parameter("stem.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    state = objective.state()
    assert state is not None
    assert state.value.device == program_device(program) == torch.device("cpu")


def test_with_offload_only_the_objective_moves() -> None:
    """The parts are moved one by one."""
    program, moved = program_of(), []
    original = program._apply

    def apply(fn: Any, recurse: bool = True) -> Any:
        moved.append(fn(torch.zeros(1, 1, 2, 2)).stride())
        return original(fn, recurse)

    program._apply = apply  # type: ignore[method-assign]
    settings = TrainerSettings(device="cpu", offload="frozen", channels_last=True)
    assert move_program(program, lap(1, 1, 1), settings, offload=True) == CPU
    assert len(moved) == 1, "only the memory format"
    assert move_program(program, lap(1, 1, 1), settings) == CPU
    assert len(moved) == 3


def hold(size: int) -> None:
    """Hold memory for a moment: not of the heap, which may keep what is freed."""
    with mmap.mmap(-1, size) as held:
        for start in range(0, size, 2**20):
            held[start : start + 2**20] = bytes(2**20)


@pytest.mark.skipif(not devices._restarts(), reason="this system measures no peak")
def test_peak_memory_is_since_the_last_reset() -> None:
    reset_peak_memory(CPU)
    before = peak_memory(CPU)
    assert before is not None
    hold(2**26)
    high = peak_memory(CPU)
    assert high is not None
    assert high >= before + 2**25
    assert peak_memory(CPU) == high
    reset_peak_memory(CPU)
    low = peak_memory(CPU)
    assert low is not None
    assert low <= high - 2**25


@pytest.mark.skipif(not devices._restarts(), reason="this system measures no peak")
def test_the_peak_of_an_epoch_is_its_own() -> None:
    """What was resident only before, or while validating, is not counted."""

    class Once(Observer):
        def __init__(self) -> None:
            self.peaks: list[int] = []

        def on_step(self, step: StepReport, position: Position) -> None:
            if position.steps == 4:
                hold(2**26)

        def on_epoch(self, epoch: EpochReport) -> None:
            assert epoch.peak_memory is not None
            self.peaks.append(epoch.peak_memory)
            hold(2**27)

    hold(2**27)
    once = Once()
    trainer_of(Sequential(2), observers=[once]).fit(train_stream())
    first, second, third, fourth = once.peaks
    assert second >= max(first, third, fourth) + 2**25
    assert second <= min(first, third, fourth) + 2**27 - 2**25


def test_a_system_that_measures_no_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_restarts", lambda: False)
    reset_peak_memory(CPU)
    assert peak_memory(CPU) is None


def test_a_system_whose_peak_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices._restarts.cache_clear()
    monkeypatch.setattr(devices, "_CLEAR", tmp_path / "none" / "clear_refs")
    assert not devices._restarts()
    devices._restarts.cache_clear()
