"""What trains one part: its optimizer, learning rate schedule and gradient scaler."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from fxtransport.objectives import Loss, MultiplierState, Objective
from fxtransport.objectives.objective import logits_of
from fxtransport.program import Part, PartOutput
from fxtransport.training.compiling import Compiled, outliving
from fxtransport.training.optimizers import (
    EarlierOptimizer,
    create_optimizer,
    create_scheduler,
    take_over,
)
from fxtransport.training.reports import PartStep
from fxtransport.training.settings import OptimizerSettings, TrainerSettings

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Learner:
    """A part that trains: one of a program's parts, or the whole program.

    Args:
        part: The part.
        epochs: The number of epochs for which it trains, over all laps.
        optimizer: Its optimizer and learning rate schedule.
        settings: How it runs.
        device: Where it is.
        extra: What else trains with it: projections of a regularizer.
        scales: What the learning rate of each parameter is multiplied by, by name.

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
        scales: Mapping[str, float] | None = None,
    ) -> None:
        self.part = part
        if settings.checkpoint_activations:
            part.checkpoint_activations = True
        if settings.checkpoint_blocks is not None:
            part.checkpointed_blocks = settings.checkpoint_blocks[part.index]
        if settings.recompute_norms:
            part.recompute_norms = True
        self.run = compile_part(part, settings)
        self.minimize = compile_loss(part, settings)
        self.report: Callable[[PartStep], PartStep] = outliving if settings.cuda_graphs else _itself
        self.settings, self.extra = optimizer, tuple(extra)
        self.optimizer = self._new_optimizer(optimizer, scales)
        self.scheduler = create_scheduler(self.optimizer, optimizer, epochs)
        self.scaler = torch.amp.GradScaler(device.type, enabled=settings.amp == "fp16")
        self.grad_clip = settings.grad_clip
        self.epochs = 0
        self.steps = 0
        self._loaded = False
        self.optimizer.zero_grad(set_to_none=True)

    def _new_optimizer(
        self, settings: OptimizerSettings, scales: Mapping[str, float] | None
    ) -> torch.optim.Optimizer:
        optimizer = create_optimizer(self.part, settings, scales)
        if self.extra:
            # timm's schedules begin with the rate of each group
            group = {"params": [*self.extra], "weight_decay": settings.weight_decay}
            optimizer.add_param_group(group)
        return optimizer

    @property
    def graphs(self) -> int:
        """How many graphs were compiled for it."""
        return graphs_of(self.run) + graphs_of(self.minimize)

    @property
    def lr(self) -> float:
        """The present learning rate; where layers have their own, that of the last ones."""
        return max(float(group["lr"]) for group in self._groups)

    @property
    def _groups(self) -> list[dict[str, Any]]:
        return self.optimizer.param_groups

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

    def load_state_dict(
        self, state: dict[str, Any], *, earlier: EarlierOptimizer | None = None
    ) -> None:
        """Resume from a state.

        Args:
            state: What :meth:`state_dict` returned.
            earlier: The optimizer of the state, to go on with this one's options, learning rate
                and schedule, at the epoch of the state. None: it was as this one is.
        """
        if earlier is None:
            self.optimizer.load_state_dict(state["optimizer"])
        else:
            made = self._new_optimizer(earlier.settings, earlier.scales)
            take_over(self.optimizer, made, state["optimizer"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self.epochs, self.steps = state["epochs"], state["steps"]
        self._loaded = True
        if self.scheduler is None:
            return
        if earlier is None:
            self.scheduler.load_state_dict(state["scheduler"])
        else:
            self.scheduler.step(self.epochs)
            self.scheduler.step_update(self.steps)

    def place_state(self) -> None:
        """Move state that was loaded to where the parameters are now."""
        if self._loaded:
            # torch knows which of it stays on the CPU
            self.optimizer.load_state_dict(self.optimizer.state_dict())
            self._loaded = False


def compile_part(part: Part, settings: TrainerSettings) -> Callable[..., PartOutput]:
    """The forward of a part, compiled if the settings ask for it.

    Raises:
        UsageError: torch has no such backend.
    """
    if settings.compile is None:
        return part
    return Compiled(part, f"part_{part.index}", settings.compile, settings.cuda_graphs)


def compile_loss(
    part: Part, settings: TrainerSettings
) -> Callable[..., tuple[Any, Loss, torch.Tensor]]:
    """The forward of a part, its loss and its accuracy, compiled as one graph if asked for."""

    def minimize(
        objective: Objective,
        hidden: Any,
        targets: torch.Tensor,
        state: MultiplierState | None,
        advance: bool,
    ) -> tuple[Any, Loss, torch.Tensor]:
        with autocast(targets.device, settings.amp):
            output = part(hidden, measure=objective.cost)
            loss = objective(output, targets, state, advance=advance)
        accuracy = batch_accuracy(logits_of(output.logits), targets)
        return None if part.is_last else output.hidden, loss, accuracy

    if settings.compile is None:
        return minimize
    name = f"part_{part.index}_with_loss"
    return Compiled(minimize, name, settings.compile, settings.cuda_graphs)


def batch_accuracy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The share of samples whose largest logit is that of their class, 0-d, without a graph.

    Args:
        logits: B×C, or B×C×positions.
        targets: Class indices of the shape of the logits without C; or probabilities of the shape
            of the logits, of which the largest is that of the class.
    """
    classes = targets.argmax(1) if targets.is_floating_point() else targets
    return (logits.detach().argmax(1) == classes).float().mean()


def _itself(step: PartStep) -> PartStep:
    return step


def graphs_of(run: Callable[..., Any]) -> int:
    """How many graphs were compiled for a function."""
    return run.graphs if isinstance(run, Compiled) else 0


def autocast(device: torch.device, amp: str | None) -> torch.autocast:
    """A context in which the forward runs in a lower precision, if ``amp`` names one."""
    dtype = _DTYPES[amp] if amp else None
    return torch.autocast(device.type, dtype=dtype, enabled=amp is not None)
