"""How programs are trained: the optimizer, and settings that are not part of the method."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fxtransport.errors import UsageError

AMP_DTYPES = ("bf16", "fp16")
OFFLOAD, OFFLOAD_TO = ("frozen",), ("cpu", "disk")


@dataclass(frozen=True)
class OptimizerSettings:
    """An optimizer and a learning rate schedule of timm, of which every part gets its own.

    Raises:
        UsageError: a value is not valid. What timm does not know is refused when the trainer
            is made.
    """

    name: str = "momentum"
    """A name in ``timm.optim``, where ``sgd`` has Nesterov momentum, ``momentum`` classical."""
    lr: float = 0.01
    weight_decay: float = 1e-4
    """Not applied to biases, norms and what the model's ``no_weight_decay()`` lists, as in
    timm."""
    momentum: float = 0.9
    options: Mapping[str, Any] = field(default_factory=dict)
    """More arguments of ``timm.optim.create_optimizer_v2``."""
    scheduler: str = "none"
    """A name in ``timm.scheduler``: ``cosine``, ``multistep``, …; ``none``: a constant rate."""
    scheduler_options: Mapping[str, Any] = field(default_factory=dict)
    """More arguments of ``timm.scheduler.create_scheduler_v2``, except ``num_epochs``, which
    is the number of epochs for which the part trains."""

    def __post_init__(self) -> None:
        for name in ("lr", "weight_decay", "momentum"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{name} is {value}; it must be a number of at least 0")
        if "num_epochs" in self.scheduler_options:
            raise UsageError("leave out num_epochs: the schedule says how long each part trains")


@dataclass(frozen=True)
class TrainerSettings:
    """How a trainer runs.

    Raises:
        UsageError: a value is not valid, or two exclude each other.
    """

    device: str | None = None
    """Where to train; None: where the program is."""
    seed: int | None = None
    """The seed of torch, NumPy and Python at the beginning of ``fit``; None: do not seed."""
    deterministic: bool = False
    """Use deterministic algorithms only; operations that have none raise an error."""
    amp: str | None = None
    """``bf16`` or ``fp16`` (with a gradient scaler for each part); None: no autocast."""
    compile: str | None = None
    """The backend with which ``torch.compile`` compiles each part, such as ``inductor``; None:
    parts are not compiled."""
    cuda_graphs: bool = False
    """Replay what Inductor compiled as CUDA graphs, which saves launching its kernels one by one.
    Needs ``compile="inductor"`` and a CUDA device."""
    channels_last: bool = False
    """Use the channels-last memory format."""
    checkpoint_activations: bool = False
    """Let each residual block keep its input alone for the backward pass, which computes the rest
    again: less memory, more time, and the same numbers. See :class:`fxtransport.program.Part`."""
    checkpoint_blocks: Sequence[int] | None = None
    """The same of the first residual blocks of each part only, by their number: one number for
    each part, or one for the whole that trains end to end. None: as the parts are set."""
    recompute_norms: bool = False
    """Compute what norms and activations return again in the backward pass, from what they keep
    themselves: less memory, a little more time, and the same numbers. Not with ``compile``, where
    Inductor decides what is kept."""
    grad_clip: float | None = None
    """The largest 2-norm of a part's gradient; larger ones are scaled down to it."""
    freeze: Sequence[str] = ()
    """Patterns of the names of parameters and modules that do not train; see
    :func:`fxtransport.training.freezing.freeze`."""
    accumulate: int = 1
    """The number of pieces that a batch is trained in, one after the other, to save memory.
    Their gradients add up to that of the batch, but batch norm sees the pieces."""
    ema: float | None = None
    """The decay of a moving average of all weights (timm's ``ModelEmaV3``), which is then what
    is validated and kept; None: no average."""
    ema_warmup: bool = False
    """Begin with a smaller decay."""
    update_frozen_bn: bool = False
    """Run frozen parts in train mode, so that their batch norms go on updating their running
    statistics, as in the released code."""
    cache_hidden: bool = False
    """Compute what frozen parts return for the training set once, and keep it on disk."""
    offload: str | None = None
    """``frozen``: parts that do not train in the present phase are moved away from the device,
    with the state of their optimizers. They come back while they train, and for as long as they
    run. None: all parts stay on the device."""
    offload_to: str | None = None
    """``cpu`` or ``disk``: where they are moved; None: to the CPU's memory, and where that is
    the device, into a file in the run's folder."""
    patience: int | None = None
    """End the run after this many epochs without a better exit on the validation split; where all
    parts train at once. Learning rate schedules are planned for all epochs."""
    checkpoint_minutes: float | None = None
    """Also save within epochs, this many minutes after the last checkpoint."""
    keep_checkpoints: int | None = None
    """Also keep the weights after every so many epochs, and those that training begins with, in
    the run's folder; with a moving average, its weights."""
    check_every: int = 50
    """The number of steps between two checks that losses are finite, on a device that each
    check makes wait. On the CPU each loss is checked before its step."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too."""
    wandb: bool = False
    """Write the metrics for Weights & Biases too, offline."""

    def __post_init__(self) -> None:
        if self.amp not in (None, *AMP_DTYPES):
            raise UsageError(f"amp is {self.amp!r}; it must be one of {', '.join(AMP_DTYPES)}")
        for name in ("accumulate", "check_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("keep_checkpoints", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}; it must be at least 1 epoch")
        for name in ("grad_clip", "checkpoint_minutes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name} is {value}; it must be positive")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise UsageError(f"ema is {self.ema}; it must be at least 0 and below 1")
        self._check_blocks()
        self._check_offload()
        self._check_graphs()
        if self.update_frozen_bn and self.cache_hidden:
            raise UsageError(
                "cache_hidden needs frozen parts that do not change, but update_frozen_bn changes "
                "them; leave one of the two out"
            )

    def _check_blocks(self) -> None:
        if self.checkpoint_blocks is None:
            return
        if self.checkpoint_activations:
            raise UsageError(
                "checkpoint_activations computes all residual blocks again, and checkpoint_blocks "
                "says how many; leave one of the two out"
            )
        if any(count < 0 for count in self.checkpoint_blocks):
            raise UsageError(
                f"checkpoint_blocks is {_listed(self.checkpoint_blocks)}; each number must be at "
                "least 0"
            )

    def _check_graphs(self) -> None:
        if self.recompute_norms and self.compile is not None:
            raise UsageError(
                "recompute_norms cannot be used with compile, which decides itself what is "
                "computed again; leave one of the two out"
            )
        if self.cuda_graphs and self.compile != "inductor":
            raise UsageError(
                "cuda_graphs replays what Inductor compiled: set compile='inductor' too"
            )
        if self.cuda_graphs and self.offload is not None:
            raise UsageError(
                "offload cannot be used with cuda_graphs, which read weights where they were when "
                "a graph was recorded; leave one of the two out"
            )

    def _check_offload(self) -> None:
        for name, known in (("offload", OFFLOAD), ("offload_to", OFFLOAD_TO)):
            value = getattr(self, name)
            if value not in (None, *known):
                raise UsageError(f"{name} is {value!r}; it must be one of {', '.join(known)}")
        if self.offload_to is not None and self.offload is None:
            raise UsageError("offload_to says where offload moves parts: set offload='frozen' too")
        if self.offload is not None and self.ema is not None:
            raise UsageError(
                "offload cannot be used with ema, which averages all weights at every step, where "
                "they train; leave one of the two out"
            )


def _listed(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))
