"""The keys of the section ``trainer``: how a run is carried out."""

from typing import Any

from fxtransport.errors import UsageError
from fxtransport.runs.keys.key import DefaultBy, Key, always


def _counts(value: Any) -> list[Any]:
    """A list of whole numbers from 0 on, or a text that separates them by commas."""
    if isinstance(value, str):
        if not all(part.strip().isdecimal() for part in value.split(",")):
            raise UsageError(f"write a whole number for each part, such as 3,0, not {value!r}")
        return [int(part) for part in value.split(",")]
    return value if isinstance(value, list) else [value]


KEYS = (
    Key(
        "trainer.seed",
        int,
        "--seed",
        "The seed of weights, splits, order and augmentation.",
        0,
        least=0,
        most=2**63 - 1,
        basic=True,
    ),
    Key(
        "trainer.device",
        str,
        "--device",
        "The device; cuda if there is one, else cpu.",
        may_change=always,
        basic=True,
    ),
    Key("trainer.deterministic", bool, "--deterministic", "Deterministic algorithms only.", False),
    Key(
        "trainer.amp",
        str,
        "--amp",
        "Mixed precision; auto, or no value: fp16 on a GPU, bf16 on a CPU.",
        choices=("auto", "bf16", "fp16"),
        bare="auto",
        basic=True,
    ),
    Key(
        "trainer.compile",
        str,
        "",
        "The backend by which torch.compile compiles each part.",
        short_forms={"--compile": ("inductor", "Compile each part by torch.compile.")},
    ),
    Key(
        "trainer.cuda_graphs",
        bool,
        "--cuda-graphs",
        "On a GPU, replay what Inductor compiled as CUDA graphs.",
        DefaultBy("trainer.compile", {"inductor": False}),
        may_change=always,
    ),
    Key(
        "trainer.channels_last",
        bool,
        "--channels-last",
        "Keep images in memory with their channels last.",
        False,
    ),
    Key(
        "trainer.checkpoint_activations",
        bool,
        "--checkpoint-activations",
        "Compute residual blocks again in the backward pass, to save memory.",
        False,
        may_change=always,
    ),
    Key(
        "trainer.checkpoint_blocks",
        tuple,
        "--checkpoint-blocks",
        "The same of the first N blocks of each part only.",
        metavar="N[,N...]",
        may_change=always,
        whole=True,
        read=_counts,
    ),
    Key(
        "trainer.recompute_norms",
        bool,
        "--recompute-norms",
        "Compute what norms and activations return again in the backward pass.",
        False,
        may_change=always,
    ),
    Key(
        "trainer.grad_clip",
        float,
        "--grad-clip/--clip-grad",
        "The largest norm of a part's gradient.",
        continues=always,
    ),
    Key(
        "trainer.freeze",
        list,
        "--freeze",
        "Do not train parameters and modules of this name, such as 'layer*'; may be repeated.",
        metavar="PATTERN",
    ),
    Key(
        "trainer.patience",
        int,
        "--patience",
        "End after this many epochs without a better exit on the validation split.",
        DefaultBy("schedule.name", {"end-to-end": None, "parallel": None}),
        least=1,
        continues=always,
    ),
    Key("trainer.accumulate", int, "--accumulate", "Train each batch in N pieces.", 1, least=1),
    Key("trainer.ema", float, "--ema", "The decay of a moving average of the weights."),
    Key("trainer.ema_warmup", bool, "--ema-warmup", "Begin with a smaller decay.", False),
    Key(
        "trainer.update_frozen_bn",
        bool,
        "--update-frozen-bn",
        "Let batch norms of frozen parts update their statistics.",
        False,
    ),
    Key(
        "trainer.cache_hidden",
        bool,
        "--cache-hidden",
        "Keep on disk what frozen parts return.",
        False,
    ),
    Key(
        "trainer.offload",
        str,
        "--offload",
        "Where parts train in turn, move the others, with their optimizers, away from the device.",
        DefaultBy("schedule.name", {"sequential": None, "multi-lap": None}),
        choices=("frozen",),
        may_change=always,
    ),
    Key(
        "trainer.offload_to",
        str,
        "--offload-to",
        "Where they are moved: from a GPU to the cpu, from a CPU to the disk, unless this is set.",
        DefaultBy("trainer.offload", {"frozen": None}),
        choices=("cpu", "disk"),
        may_change=always,
    ),
    Key(
        "trainer.checkpoint_minutes",
        float,
        "--checkpoint-minutes",
        "Save within epochs too, at this interval in minutes.",
        may_change=always,
    ),
    Key(
        "trainer.keep_checkpoints",
        int,
        "--keep-checkpoints",
        "Keep the weights after every N epochs too, and those of the beginning.",
        least=1,
        may_change=always,
    ),
    Key(
        "trainer.monitors",
        list,
        "--monitor",
        "Measure this after every epoch, for metrics.csv; may be repeated.",
        choices=("polyak-lojasiewicz",),
        may_change=always,
    ),
    Key(
        "trainer.tensorboard",
        bool,
        "--tensorboard",
        "Write the metrics for TensorBoard too.",
        False,
        may_change=always,
    ),
    Key(
        "trainer.wandb",
        bool,
        "--wandb",
        "Write the metrics for Weights & Biases too, offline.",
        False,
        may_change=always,
    ),
)
