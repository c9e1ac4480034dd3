"""A program up to one of its exits: a smaller, faster model of its own."""

import copy
from collections.abc import Collection
from typing import Any

from torch import Tensor, nn

from fxtransport.errors import UsageError
from fxtransport.objectives.objective import logits_of
from fxtransport.program import Part, Program


class ExitModel(nn.Module):
    """The parts up to an exit and the head of the last of them, as one model.

    It shares nothing with the program, and holds nothing of the parts after the exit. Its modes
    are those of the program.

    Args:
        program: The program.
        exit: The index of a part that has a head; the last one's is the model's own.

    Raises:
        UsageError: there is no such part, or it has no head.

    >>> import torch
    >>> from fxtransport import transportify
    >>> class Block(nn.Linear):
    ...     def forward(self, x):
    ...         return x + super().forward(x).relu()
    >>> model = nn.Sequential(Block(4, 4), Block(4, 4), nn.Linear(4, 3))
    >>> program = transportify(model, torch.zeros(2, 4), modules=2)
    >>> early = ExitModel(program, 0)
    >>> early(torch.zeros(5, 4)).shape
    torch.Size([5, 3])
    >>> sum(p.numel() for p in early.parameters()), sum(p.numel() for p in model.parameters())
    (43, 55)
    """

    def __init__(self, program: Program, exit: int) -> None:
        super().__init__()
        _check(program.parts, exit)
        self.training = program.training
        self.parts = nn.ModuleList(copy.deepcopy(part) for part in program.parts[: exit + 1])

    def forward(self, inputs: Any) -> Tensor:
        """The logits, B×classes.

        Args:
            inputs: What the model is given; a tuple where that is several things.
        """
        hidden = inputs
        for part in self.parts[:-1]:
            hidden = part(hidden, measure=None, head=False).hidden
        return logits_of(self.parts[-1](hidden, measure=None).logits)


def exit_logits(program: Program, inputs: Any, exits: Collection[int]) -> dict[int, Tensor]:
    """The logits of several exits, B×classes each, in one pass up to the last of them.

    Args:
        program: The program.
        inputs: What the model is given; a tuple where that is several things.
        exits: Indices of parts that have a head.

    Raises:
        UsageError: there is no such part, or it has no head.
    """
    for exit in exits:
        _check(program.parts, exit)
    found, hidden = {}, inputs
    for k, part in enumerate(program.parts[: max(exits) + 1]):
        output = part(hidden, measure=None, head=k in exits)
        if k in exits:
            found[k] = logits_of(output.logits)
        hidden = output.hidden
    return found


def _check(parts: tuple[Part, ...], exit: int) -> None:
    if not 0 <= exit < len(parts):
        raise UsageError(f"there is no part {exit}: the program has {len(parts)}, counted from 0")
    if not parts[exit].is_last and parts[exit].auxiliary_head is None:
        raise UsageError(f"part {exit} has no head, so it has no exit")
