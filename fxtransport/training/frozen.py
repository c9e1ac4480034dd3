"""The modules before those that train: no gradient, no heads, batch norm as in eval mode."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch

from fxtransport.program import PartOutput, Program
from fxtransport.training.steps import autocast


class FrozenModules:
    """A program's first modules, frozen. Making one sets the modes of all modules.

    Args:
        program: The program; it is in train mode afterwards, but for its frozen modules.
        runs: The forwards of the modules that are frozen, from the first on.
        device: Where the program is.
        drift: Leave them in train mode, so that their batch norms go on averaging, as the
            authors' released code does.
        amp: ``bf16``, ``fp16``, or None.
    """

    def __init__(
        self,
        program: Program,
        runs: Sequence[Callable[..., PartOutput]],
        device: torch.device,
        drift: bool = False,
        amp: str | None = None,
    ) -> None:
        self._runs = tuple(runs)
        self._device = device
        self._amp = amp
        program.train()
        self._shared: list[torch.nn.Module] = []
        if not runs or drift:
            return
        for part in program.parts[: len(runs)]:
            part.eval()
        # what is in several modules of the partition, or around them, is in train mode, but
        # while the frozen ones run
        users = Counter(module for part in program.parts for module in set(part.modules()))
        self._shared = [module for module in program.modules() if users[module] != 1]
        self._switch(training=True)

    def __bool__(self) -> bool:
        return bool(self._runs)

    @torch.no_grad()
    def __call__(self, hidden: Any) -> Any:
        """What the first module that trains reads, of the program's input."""
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
