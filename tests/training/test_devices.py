"""Tensors and programs on the device and in the memory format of the settings."""

import pytest
import torch

from fxtransport.errors import UsageError
from fxtransport.objectives import lap
from fxtransport.training import Parallel, TrainerSettings
from fxtransport.training.devices import move_program, move_to, peak_memory, program_device
from tests.training.runs import program_of, trainer_of


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="the device 'cuda:77' cannot be used"):
        trainer_of(Parallel(1), device="cuda:77")


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


def test_peak_memory_is_of_the_process() -> None:
    before = peak_memory(torch.device("cpu"))
    kept = torch.ones(before // 4 + 2**24)
    assert peak_memory(torch.device("cpu")) >= before + 2**25
    del kept
