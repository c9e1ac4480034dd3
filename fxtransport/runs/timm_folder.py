"""The layout of timm's hub: a folder with ``config.json`` and weights, which timm loads alone."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from fxtransport.errors import UsageError, first_line
from fxtransport.files import put
from fxtransport.origin import Origin
from fxtransport.randomness import fork_rng
from fxtransport.runs.formats import check_same, example_inputs
from fxtransport.runs.inputs import Inputs

FILES = ("model.safetensors", "config.json")
"""What is written, the description last."""


@torch.no_grad()
def write_timm(
    folder: Path, origin: Origin, inputs: Inputs, state: Mapping[str, Tensor], program: nn.Module
) -> None:
    """Write a folder that ``timm.create_model("local-dir:FOLDER", pretrained=True)`` loads.

    ``config.json`` has the model's arguments, the classes and the preprocessing of images, as
    ``timm.data.resolve_model_data_config`` finds them.

    Args:
        folder: Where; it is made, and files of the same names are replaced.
        origin: The model.
        inputs: Its classes, and how images are prepared.
        state: Its weights.
        program: Returns the logits that timm's model must return.

    Raises:
        UsageError: the model is not one of timm's, timm cannot describe it, or the folder cannot
            be written.
        VerificationError: what timm loads computes other numbers.
    """
    from timm import create_model

    library, _, name = origin.model.partition(":")
    if library != "timm":
        raise UsageError(
            f"the format timm is for models of timm, and this run's is {origin.model}: take "
            "format='safetensors', 'torch' or 'onnx'"
        )
    example = example_inputs(inputs.input_size, 2)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=folder.parent) as beside, fork_rng(0):
            model = create_model(name, **origin.options)
            model.load_state_dict(dict(state))
            _save(model, origin, inputs, Path(beside))
            loaded = create_model(f"local-dir:{beside}", pretrained=True).eval()
            check_same(loaded(example), program(example), "timm")
            folder.mkdir(exist_ok=True)
            for file in FILES:
                put(Path(beside) / file, folder / file)
    except OSError as error:
        raise UsageError(f"cannot write into {folder}: {error.strerror or error}") from error


def _save(model: nn.Module, origin: Origin, inputs: Inputs, folder: Path) -> None:
    from timm.models import save_for_hf

    # the tag is that of timm's own weights
    prepared = {**(inputs.preprocessing or {}), "tag": ""}
    try:
        save_for_hf(
            model,
            str(folder),
            model_config={"label_names": list(inputs.class_names), "pretrained_cfg": prepared},
            model_args={k: v for k, v in origin.options.items() if k != "num_classes"},
            safe_serialization=True,
        )
    except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(f"timm cannot describe {origin.model}: {first_line(error)}") from error
