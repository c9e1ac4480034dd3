"""What a run has learned, as files that other programs load: formats, and what they say of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from fxtransport.errors import UsageError
from fxtransport.exits import ExitModel
from fxtransport.latency import time_in_turns
from fxtransport.onnx_files import write_onnx
from fxtransport.runs.formats import example_inputs, write_program, write_tensors
from fxtransport.runs.load import Run
from fxtransport.runs.timm_folder import write_timm
from fxtransport.training import Exit
from fxtransport.weights import model_state

PLAIN = ("safetensors", "timm")
"""Formats of the plain model, whose head is that of the last part; the others are torch, onnx."""
EXTRA = "fxtransport.json"
"""The file inside a program of torch.export that describes it."""
METADATA = "fxtransport"
"""The property of an ONNX model that describes it, as JSON."""
LOGITS = "logits"
BATCH = 32
"""How many inputs the models are timed with."""


@dataclass(frozen=True)
class Smaller:
    """How much an exit saves.

    Attributes:
        exit: The index of its part.
        parameters: Of the parts up to it, with its head.
        whole_parameters: Of the whole model.
        speedup: The quickest forward of the whole model, in time divided by that of this one, in
            batches of :data:`BATCH` on the CPU.
    """

    exit: int
    parameters: int
    whole_parameters: int
    speedup: float


def export_run(run: Run, output: Path, form: str, exit: int) -> None:
    """Write an exit of a run, with the weights that are loaded, in a format.

    What is written is loaded again and compared with the run's program, before a file that is
    there is replaced.

    Args:
        run: The run, loaded for this exit.
        output: A file; of ``timm`` a folder.
        form: ``safetensors``, ``timm``, ``torch`` or ``onnx``.
        exit: The index of a part.

    Raises:
        UsageError: the format cannot hold this exit, a package is missing, or nothing can be
            written.
        VerificationError: what was written computes other numbers.
    """
    last = len(run.program.parts) - 1
    if form in PLAIN and exit != last:
        raise UsageError(
            f"{form} holds the plain model, whose head is that of part {last}: part {exit} with "
            "its head is a model of its own, which format='torch' and format='onnx' hold"
        )
    described = describe(run, exit)
    if form == "safetensors":
        write_tensors(output, model_state(run.program), {"format": "pt", **_texts(described)})
        return
    run.program.eval()
    model = ExitModel(run.program, exit).cpu()
    examples = partial(example_inputs, run.input_size)
    if form == "timm":
        write_timm(output, run.origin, run.inputs, model_state(run.program), model)
    elif form == "onnx":
        write_onnx(model, examples, [LOGITS], output, {METADATA: json.dumps(described)})
    else:
        write_program(output, model, examples, {EXTRA: json.dumps(described)})


def describe(run: Run, exit: int) -> dict[str, Any]:
    """What is said of a run's exit in all formats: values of JSON.

    ``preprocessing`` are the options of ``timm.data.create_transform`` by which an image becomes
    the input, ``validation_accuracy`` is what was measured of this exit with these weights.
    """
    found = {
        "model": run.origin.model,
        "options": dict(run.origin.options),
        "input_size": run.input_size,
        "class_names": run.inputs.class_names,
        "preprocessing": run.inputs.preprocessing,
        "data": run.config["data.name"],
        "method": run.config["objective.method"],
        "schedule": run.config["schedule.name"],
        "epochs": run.epochs,
        "averaged": run.averaged,
        "exit": exit,
        "exits": len(run.program.parts),
        "fxtransport": version("fxtransport"),
    }
    measured = measured_exit(run, exit)
    if measured is not None:
        found["validation_accuracy"] = measured.accuracy
        found["validation_samples"] = measured.samples
    if run.best is not None:
        found["best_exit"] = run.best.exit.part
        found["best_validation_accuracy"] = run.best.exit.accuracy
    return found


def measured_exit(run: Run, exit: int) -> Exit | None:
    """What was measured of an exit on the validation split, with the weights that are loaded."""
    return next((found for found in run.measured if found.part == exit), None)


def compare_sizes(run: Run, exit: int) -> Smaller:
    """How much smaller and faster the model of an exit is than the whole."""
    run.program.eval()
    early = ExitModel(run.program, exit).cpu()
    whole = ExitModel(run.program, len(run.program.parts) - 1).cpu()
    images = example_inputs(run.input_size, BATCH)
    with torch.no_grad():
        times = time_in_turns({"early": lambda: early(images), "whole": lambda: whole(images)})
    sizes = [sum(p.numel() for p in model.parameters()) for model in (early, whole)]
    return Smaller(exit, sizes[0], sizes[1], times["whole"].least / times["early"].least)


def _texts(described: Mapping[str, Any]) -> dict[str, str]:
    """Values as texts, as the metadata of safetensors hold them; other values are JSON."""
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in described.items()}
