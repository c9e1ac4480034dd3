"""What heads and optimizers hold in memory, each found out without data."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from torch import nn

from fxtransport.analysis.stepping import classification_loss
from fxtransport.errors import UsageError
from fxtransport.fakes import without_data
from fxtransport.heads import build_head, dtype_of
from fxtransport.ir import HeadKind, HeadMemory, HeadSpec
from fxtransport.peaks import MemoryLog
from fxtransport.replay import replayed

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
Shape = tuple[tuple[int, ...], torch.dtype]


@lru_cache(maxsize=1024)
def head_memory(
    spec: HeadSpec,
    shapes: tuple[tuple[int, ...], ...],
    batch_size: int,
    device: torch.device,
    amp: str | None,
    optimizer: str,
) -> HeadMemory:
    """What an auxiliary head holds.

    Args:
        spec: The head.
        shapes: The shapes of the tensors that it reads, without the batch.
        batch_size: Samples in a batch.
        device: Where it would run.
        amp: ``bf16``, ``fp16``, or None.
        optimizer: The name of its optimizer.
    """
    if spec.kind is HeadKind.NONE:
        return HeadMemory()
    with torch.device("meta"):
        real = build_head(spec)
    with without_data(device) as fakes:
        head = fakes.copy(real).train()
        hidden = [
            torch.empty(batch_size, *s, dtype=dtype_of(spec), device=device, requires_grad=True)
            for s in shapes
        ]
        log = MemoryLog()
        owned = [*head.parameters(), *head.buffers()]
        log.add((*owned, *hidden))
        dtype = _DTYPES[amp] if amp else None
        with torch.autocast(device.type, dtype=dtype, enabled=amp is not None), log:
            loss = classification_loss(head(*hidden))
        with log, replayed(device, log):
            loss.backward()
        curve = log.curve()
    sizes = [p.numel() * p.element_size() for p in head.parameters()]
    held = optimizer_state(
        optimizer, [(tuple(p.shape), p.dtype) for p in head.parameters()], device
    )
    buffers = sum(b.numel() * b.element_size() for b in head.buffers())
    return HeadMemory(
        sum(sizes) + buffers, sum(held), sum(sizes), max(curve) - curve[0], max(sizes)
    )


def optimizer_state(name: str, shapes: Sequence[Shape], device: torch.device) -> list[int]:
    """Bytes of an optimizer's state for parameters of these shapes."""
    return [_state(name, shape, device) for shape in shapes]


@lru_cache(maxsize=4096)
def _state(name: str, shape: Shape, device: torch.device) -> int:
    with without_data(device):
        optimizer = _stepped(name, [shape], device)
        state = [v for each in optimizer.state.values() for v in each.values()]
        return sum(v.numel() * v.element_size() for v in state if isinstance(v, torch.Tensor))


@lru_cache(maxsize=64)
def optimizer_temporaries(name: str, shape: Shape, device: torch.device) -> tuple[float, bool]:
    """Bytes that a step takes for each byte of parameters.

    Args:
        name: The optimizer.
        shape: The shape of the largest parameter.
        device: Where it would run.

    Returns:
        The bytes, and whether they are taken for all parameters at once, or for the largest.
    """
    found = []
    with without_data(device):
        for count in (2, 4):
            optimizer = _stepped(name, [shape] * count, device)
            log = MemoryLog()
            for group in optimizer.param_groups:
                for p in group["params"]:
                    p.grad = torch.empty_like(p)
                    log.add((p, p.grad))
                    log.add(v for v in optimizer.state[p].values() if isinstance(v, torch.Tensor))
            with log:
                optimizer.step()
            curve = log.curve()
            found.append(max(curve) - curve[0])
    size = torch.Size(shape[0]).numel() * shape[1].itemsize
    pair, twice = found
    of_all = twice > 1.5 * pair
    return (pair / (2 * size) if of_all else pair / size), of_all


def _stepped(name: str, shapes: Sequence[Shape], device: torch.device) -> torch.optim.Optimizer:
    """An optimizer of parameters, that has its state."""
    module = nn.Module()
    for k, (shape, dtype) in enumerate(shapes):
        module.register_parameter(
            f"weight{k}", nn.Parameter(torch.empty(shape, dtype=dtype, device=device))
        )
    try:
        optimizer: torch.optim.Optimizer = create_optimizer_v2(
            module, opt=name, lr=0.01, weight_decay=1e-4, momentum=0.9
        )
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"timm cannot make the optimizer {name!r}: {error}") from error
    with MemoryLog():
        for parameter in module.parameters():
            parameter.grad = torch.empty_like(parameter)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return optimizer
