"""What trains one part: its optimizer, learning rate schedule and gradient scaler."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from fxtransport.errors import UsageError
from fxtransport.program import Part, PartOutput
from fxtransport.training.optimizers import create_optimizer, create_scheduler
from fxtransport.training.settings import OptimizerSettings, TrainerSettings


class Learner:
    """A part that trains: one of a program's parts, or the whole program.

    Args:
        part: The part.
        epochs: The number of epochs for which it trains, over all laps.
        optimizer: Its optimizer and learning rate schedule.
        settings: How it runs.
        device: Where it is.
        extra: What else trains with it: projections of a regularizer.

    Raises:
        UsageError: timm refuses the optimizer or the learning rate schedule.
    """

    def __init__(
        self,
        part: Part,
        epochs: int,
        optimizer: OptimizerSettings,
        settings: TrainerSettings,
        device: torch.device,
        extra: Sequence[nn.Parameter] = (),
    ) -> None:
        self.part = part
        self.run = compile_part(part, settings)
        self.optimizer = create_optimizer(part, optimizer)
        self.extra = tuple(extra)
        if extra:
            # timm's schedules begin with the rate of each group
            group = {"params": [*extra], "weight_decay": optimizer.weight_decay}
            self.optimizer.add_param_group(group)
        self.scheduler = create_scheduler(self.optimizer, optimizer, epochs)
        self.scaler = torch.amp.GradScaler(device.type, enabled=settings.amp == "fp16")
        self.grad_clip = settings.grad_clip
        self.epochs = 0
        self.steps = 0
        self.optimizer.zero_grad(set_to_none=True)

    @property
    def lr(self) -> float:
        """The present learning rate of the first parameter group."""
        return float(self.optimizer.param_groups[0]["lr"])

    def step(self) -> None:
        """Clip the gradients, make a step, and free the gradients."""
        if self.grad_clip is not None:
            self.scaler.unscale_(self.optimizer)
            trained = [*self.part.parameters(), *self.extra]
            nn.utils.clip_grad_norm_(trained, self.grad_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        if self.scheduler is not None:
            self.scheduler.step_update(self.steps)

    def end_epoch(self) -> None:
        """Set the learning rate of the next epoch."""
        self.epochs += 1
        if self.scheduler is not None:
            self.scheduler.step(self.epochs)

    def release(self) -> None:
        """Free the optimizer's state, for a part that will not train again."""
        self.optimizer.state.clear()

    def state_dict(self) -> dict[str, Any]:
        """All state but the weights: moments, learning rates, counts, the scaler's factor."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epochs": self.epochs,
            "steps": self.steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a state."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self.epochs, self.steps = state["epochs"], state["steps"]


def compile_part(part: Part, settings: TrainerSettings) -> Callable[..., PartOutput]:
    """The forward of a part, compiled if the settings ask for it.

    Raises:
        UsageError: torch has no such backend.
    """
    if settings.compile is None:
        return part
    try:
        return torch.compile(part, backend=settings.compile)
    except RuntimeError as error:
        known = ", ".join(torch.compiler.list_backends())
        raise UsageError(
            f"torch.compile has no backend {settings.compile!r}: it has {known}"
        ) from error
