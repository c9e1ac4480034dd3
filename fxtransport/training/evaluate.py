"""Accuracy and loss of every exit of a program, in one pass."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from fxtransport.errors import UsageError
from fxtransport.modes import eval_mode
from fxtransport.objectives.objective import logits_of
from fxtransport.program import Program
from fxtransport.training.devices import Visit, in_place, move_to, program_device
from fxtransport.training.learner import autocast
from fxtransport.training.reports import Exit


@torch.no_grad()
def evaluate(
    program: Program,
    batches: Iterable[Any],
    *,
    parts: Sequence[int] | None = None,
    amp: str | None = None,
    observe: Callable[[], None] = lambda: None,
    device: torch.device | None = None,
    visit: Visit = in_place,
) -> tuple[Exit, ...]:
    """Accuracy and loss of every exit, in one pass, in eval mode. Modes are restored.

    Args:
        program: The program.
        batches: Inputs and B classes, int64.
        parts: The parts whose exits to evaluate; None: every part that has a head.
        amp: ``bf16``, ``fp16``, or None.
        observe: Called after every batch.
        device: Where the parts run; None: where the program is.
        visit: A context in which a part is there to run.

    Raises:
        UsageError: one of the parts has no head, there are no batches, or the program is on
            several devices.

    >>> from torch import nn
    >>> from fxtransport import transportify
    >>> class Block(nn.Linear):
    ...     def forward(self, x):
    ...         return x + super().forward(x).relu()
    >>> model = nn.Sequential(Block(2, 2), Block(2, 2), nn.Linear(2, 2))
    >>> program = transportify(model, torch.zeros(2, 2), modules=2)
    >>> batches = [(torch.zeros(3, 2), torch.tensor([0, 1, 1]))]
    >>> [(e.part, e.samples) for e in evaluate(program, batches)]
    [(0, 3), (1, 3)]
    """
    device = device or _one_device(program)
    wanted = exits(program) if parts is None else tuple(parts)
    for k in set(wanted) - set(exits(program)):
        raise UsageError(f"part {k} has no head, so it has no exit")
    sums = {k: torch.zeros(3, dtype=torch.float64, device=device) for k in wanted}
    samples = 0
    with eval_mode(program):
        for inputs, classes in batches:
            hidden, targets = move_to(inputs, device), move_to(classes, device)
            with autocast(device, amp):
                for k, part in enumerate(program.parts[: max(wanted) + 1]):
                    with visit(part):
                        output = part(hidden, measure=None, head=k in sums)
                    if k in sums:
                        sums[k] += _sums(logits_of(output.logits), targets)
                    hidden = output.hidden
            samples += targets.numel()
            observe()
    if not samples:
        raise UsageError("there is nothing to evaluate on: there are no batches")
    means = {k: (total / samples).tolist() for k, total in sums.items()}
    return tuple(Exit(k, top1, loss, samples, top5) for k, (top1, loss, top5) in means.items())


def _one_device(program: Program) -> torch.device:
    found = sorted({str(parameter.device) for parameter in program.parameters()})
    if len(found) > 1:
        raise UsageError(
            f"the program is on {' and '.join(found)}; move it to one device: after steps of a "
            "trainer with offload by trainer.collect(), else by program.to(device)"
        )
    return program_device(program)


def exits(program: Program) -> tuple[int, ...]:
    """The parts that have a head; that of the last is the model's own."""
    return tuple(p.exit for p in program.parts if p.is_last or p.auxiliary_head is not None)


def _sums(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The number of correct predictions, the sum of losses, and how often five have the class."""
    # of half precision, sums need more; what is in double precision stays
    logits = logits if logits.dtype is torch.float64 else logits.float()
    correct = (logits.argmax(1) == targets).sum()
    loss = F.cross_entropy(logits, targets, reduction="sum")
    five = logits.topk(min(5, logits.shape[1]), dim=1).indices
    among = (five == targets.unsqueeze(1)).sum()
    return torch.stack([correct.double(), loss.double(), among.double()])
