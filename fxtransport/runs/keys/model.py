"""The keys of the section ``model``: which model is trained, and how it is built."""

from typing import Any

from fxtransport.input_size import InputSize
from fxtransport.runs.keys.key import DefaultBy, Entry, Key, by_method


def _size_text(size: Any) -> str:
    """One text for the forms of a size: ``32``, ``"32x48"``, ``[3, 32, 48]``."""
    return str(InputSize.parse(size if isinstance(size, int | list) else str(size)))


KEYS = (
    Key("model.name", str, "", "The model."),
    Key("model.pretrained", bool, "--pretrained", "Fetch pretrained weights.", False, basic=True),
    Key(
        "model.initial_checkpoint",
        str,
        "--initial-checkpoint",
        "Begin with the weights in this file, of timm's formats or safetensors, or of another run; "
        "a head for another number of classes stays as it is.",
        metavar="FILE",
        basic=True,
    ),
    Key(
        "model.input_size",
        str,
        "--input-size/--image-size/--img-size",
        "The size of the input: N, HxW or C,H,W; the model's own by default.",
        metavar="SIZE",
        basic=True,
        read=_size_text,
    ),
    Key(
        "model.init",
        str,
        "--init",
        "Initialize the weights this way; otherwise as the model's library does.",
        choices=("orthogonal", "kaiming", "normal"),
    ),
    Key(
        "model.gain",
        float,
        "--gain",
        "The gain, or standard deviation, of --init.",
        DefaultBy(
            "model.init", {"orthogonal": by_method(0.1, 0.01), "kaiming": 1.0, "normal": 0.05}
        ),
    ),
    Key(
        "model.options",
        dict,
        "--model-arg",
        "An argument of the model's constructor, such as global_pool=max.",
        entries={
            "--drop": Entry("drop_rate", "The dropout of timm's model."),
            "--drop-path": Entry("drop_path_rate", "The stochastic depth of timm's model."),
        },
    ),
)
