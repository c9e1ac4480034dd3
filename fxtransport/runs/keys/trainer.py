"""The keys of the section ``trainer``: how a run is carried out."""

from fxtransport.runs.keys.key import Key, always

KEYS = (
    Key(
        "trainer.seed",
        int,
        "--seed",
        "The seed of weights, splits, order and augmentation.",
        0,
        least=0,
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
    Key("trainer.amp", str, "--amp", "Mixed precision.", choices=("bf16", "fp16"), basic=True),
    Key(
        "trainer.compile",
        str,
        "",
        "The backend by which torch.compile compiles each part.",
        short_forms={"--compile": ("inductor", "Compile each part by torch.compile.")},
    ),
    Key(
        "trainer.channels_last",
        bool,
        "--channels-last",
        "Keep images in memory with their channels last.",
        False,
    ),
    Key("trainer.grad_clip", float, "--grad-clip", "The largest norm of a part's gradient."),
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
        "trainer.checkpoint_minutes",
        float,
        "--checkpoint-minutes",
        "Save within epochs too, at this interval in minutes.",
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
)
