"""The parts before those that train: no gradient, no heads, batch norm as in eval mode."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch

from fxtransport.program import PartOutput, Program
from fxtransport.training.learner import autocast


class FrozenParts:
    """The first parts of a program, frozen. Making one sets the modes of all modules.

    Args:
        program: The program. It is in train mode afterwards, except for its frozen parts.
        runs: The forwards of the frozen parts, from the first on.
        device: Where the program is.
        update_bn: Leave them in train mode, so that their batch norms go on updating their
            running statistics, as in the authors' released code.
        amp: ``bf16``, ``fp16``, or None.
    """

    def __init__(
        self,
        program: Program,
        runs: Sequence[Callable[..., PartOutput]],
        device: torch.device,
        update_bn: bool = False,
        amp: str | None = None,
    ) -> None:
        self._runs = tuple(runs)
        self._device = device
        self._amp = amp
        program.train()
        self._shared: list[torch.nn.Module] = []
        if not runs or update_bn:
            return
        for part in program.parts[: len(runs)]:
            part.eval()
        # a module without parameters may run in several parts, such as one dropout for all blocks
        users = Counter(module for part in program.parts for module in set(part.modules()))
        self._shared = [module for module, count in users.items() if count > 1]
        self._switch(training=True)

    @torch.no_grad()
    def __call__(self, hidden: Any) -> Any:
        """What the first part that trains reads, for an input of the program."""
        self._switch(training=False)
        try:
            with autocast(self._device, self._amp):
                for run in self._runs:
                    hidden = run(hidden, measure=None, head=False).hidden
        finally:
            self._switch(training=True)
        return hidden

    def _switch(self, *, training: bool) -> None:
        for module in self._shared:
            module.training = training
