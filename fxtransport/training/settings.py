"""How programs are trained: the optimiser, and what is no part of the method."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fxtransport.errors import UsageError

AMP_DTYPES = ("bf16", "fp16")


@dataclass(frozen=True)
class OptimizerSettings:
    """An optimiser and a learning rate schedule of timm, made anew for every module.

    Raises:
        UsageError: a value cannot be used. What timm does not know is refused when the
            trainer is made.
    """

    name: str = "momentum"
    """As in ``timm.optim``; ``sgd`` there is Nesterov's, ``momentum`` the classical one."""
    lr: float = 0.01
    weight_decay: float = 1e-4
    """Not applied to biases, norms and what the model's ``no_weight_decay()`` lists, as
    timm has it."""
    momentum: float = 0.9
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of ``timm.optim.create_optimizer_v2``."""
    scheduler: str = "none"
    """As in ``timm.scheduler``: ``cosine``, ``multistep``, …; ``none``: a constant rate."""
    scheduler_options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of ``timm.scheduler.create_scheduler_v2``, but ``num_epochs``:
    that is the number of epochs for which the module trains."""

    def __post_init__(self) -> None:
        for name in ("lr", "weight_decay", "momentum"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{name} is {value}; it must be a number, and not negative")
        if "num_epochs" in self.scheduler_options:
            raise UsageError("leave out num_epochs: the schedule says how long each module trains")


@dataclass(frozen=True)
class TrainerSettings:
    """How a trainer runs.

    Raises:
        UsageError: a value cannot be used, or two cannot be used together.
    """

    device: str | None = None
    """Where to train; None: where the program is."""
    seed: int | None = None
    """Of torch, NumPy and Python at the beginning of ``fit``; None leaves them alone."""
    deterministic: bool = False
    """Use deterministic algorithms only, and refuse operations that have none."""
    amp: str | None = None
    """``bf16`` or ``fp16`` (with a gradient scaler for each module); None: no autocast."""
    compile: str | None = None
    """The backend by which ``torch.compile`` compiles each part: ``inductor``, or another
    of torch's; None: not compiled."""
    channels_last: bool = False
    grad_clip: float | None = None
    """The largest 2-norm of a module's gradient; larger ones are scaled down to it."""
    accumulate: int = 1
    """The pieces that a batch is trained in, one after the other, to save memory. Their
    gradients add up to the batch's, but batch norm sees the pieces."""
    ema: float | None = None
    """The decay of a moving average of all weights (timm's ``ModelEmaV3``). If there is
    one, it is what is validated and kept."""
    ema_warmup: bool = False
    drift: bool = False
    """Forward frozen modules in train mode, so that their batch norms drift, as the released
    code does."""
    cache_hidden: bool = False
    """Compute what frozen modules return for the training set once, and keep it on disk."""
    checkpoint_minutes: float | None = None
    """Save within epochs too, when so many minutes have passed since the last save."""
    check_every: int = 50
    """Steps after which a loss that is no finite number is noticed at the latest, where
    looking at each would make the device wait; on the CPU it is noticed before the step."""
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.amp not in (None, *AMP_DTYPES):
            raise UsageError(f"amp is {self.amp!r}; it must be one of {', '.join(AMP_DTYPES)}")
        for name in ("accumulate", "check_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("grad_clip", "checkpoint_minutes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name} is {value}; it must be positive")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise UsageError(f"ema is {self.ema}; a decay is at least 0 and below 1")
        if self.drift and self.cache_hidden:
            raise UsageError(
                "cache_hidden keeps what frozen modules return, and with drift that changes; "
                "leave one of them out"
            )
