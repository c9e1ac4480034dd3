"""What is booked of tensors against what is known of them."""

import torch

from fxtransport.fakes import without_data
from fxtransport.peaks import CUDA_BLOCK, MemoryLog

CPU = torch.device("cpu")


def test_the_curve_rises_and_falls_with_storages() -> None:
    with without_data(CPU):
        log = MemoryLog()
        x = torch.empty(100)
        log.add([x])
        with log:
            y = x + 1
            view = y[:10]
            del y
            z = view + 1
            del view
            x.add_(1)
    curve = log.curve()
    assert (curve[0], max(curve), curve[-1]) == (400, 840, 440)
    assert z.shape == (10,)


def test_backward_passes_are_told_apart() -> None:
    with without_data(CPU):
        x = torch.empty(8, requires_grad=True)
        log = MemoryLog()
        with log:
            loss = x.exp().sum()
            loss.backward()
    assert [log.found[0].backward, log.found[-1].backward] == [False, True]
    (start,) = log.backwards
    assert all(held.backward == (held.born >= start) for held in log.found)


def test_cuda_counts_whole_blocks() -> None:
    with without_data(torch.device("cuda")):
        log = MemoryLog()
        with log:
            kept = torch.empty(3, device="cuda") + 1
    assert [held.size for held in log.found] == [CUDA_BLOCK, CUDA_BLOCK]
    assert kept.device.type == "cuda"


def test_numbers_without_data_are_one() -> None:
    with without_data(CPU), MemoryLog():
        assert torch.empty(()).item() == 1.0
