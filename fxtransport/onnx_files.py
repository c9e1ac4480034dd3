"""ONNX models: written for batches of any size, and checked by onnxruntime."""

import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fxtransport.errors import UsageError, VerificationError, first_line
from fxtransport.files import path_beside, put

INPUT = "images"
"""What the input is called."""

_BATCHES = (1, 3)
_RTOL, _ATOL = 1e-3, 1e-4


def write_onnx(
    module: nn.Module,
    examples: Callable[[int], Tensor],
    names: Sequence[str],
    file: Path,
    metadata: Mapping[str, str],
) -> None:
    """Write an ONNX model, after onnxruntime has computed the same numbers.

    Args:
        module: Takes one tensor, B×…, and returns a tensor or a tuple of them, in eval mode.
        examples: Makes an input of so many samples, always the same.
        names: What the outputs are called.
        file: Where; a file that is there is replaced.
        metadata: What is put into the model's properties.

    Raises:
        UsageError: a package is missing, torch cannot export the module, or the file cannot be
            written.
        VerificationError: onnxruntime computes other numbers.
    """
    require_onnx()
    try:
        with path_beside(file) as beside:
            _export(module, examples(2), names, beside)
            _describe(beside, metadata)
            for count in _BATCHES:
                _verify(module, examples(count), names, beside)
            put(beside, file)
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror or error}") from error


def require_onnx() -> None:
    """Check that the packages of the extra ``onnx`` are there.

    Raises:
        UsageError: one is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"{error.name} is needed to export, and is not installed: "
            "pip install 'fxtransport[onnx]'"
        ) from error


def _export(module: nn.Module, example: Tensor, names: Sequence[str], file: Path) -> None:
    try:
        with _silent():
            torch.onnx.export(
                module,
                (example,),
                file,
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
                input_names=[INPUT],
                output_names=list(names),
                external_data=False,
                verbose=False,
            )
    except RuntimeError as error:
        raise UsageError(
            f"torch.onnx cannot export what computes {', '.join(names)}: {first_line(error)}"
        ) from error


@contextmanager
def _silent() -> Iterator[None]:
    """Keep what the exporter prints and logs to itself; its errors are shown."""
    disabled = logging.root.manager.disable
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(disabled)


def _describe(file: Path, metadata: Mapping[str, str]) -> None:
    import onnx

    model = onnx.load(file)
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(model, file)


@torch.no_grad()
def _verify(module: nn.Module, images: Tensor, names: Sequence[str], file: Path) -> None:
    """Compare what onnxruntime computes with what torch does.

    Raises:
        VerificationError: it differs.
    """
    returned = module(images)
    outputs = (returned,) if isinstance(returned, Tensor) else returned
    expected = dict(zip(names, (each.cpu().numpy() for each in outputs), strict=True))
    for name, array in _run(file, images.cpu().numpy()).items():
        if not np.allclose(array, expected[name], rtol=_RTOL, atol=_ATOL):
            worst = float(np.abs(array - expected[name]).max())
            raise VerificationError(
                f"onnxruntime computes other numbers than torch: {name} of {len(images)} images "
                f"differs by up to {worst:.3g}; the file was not written"
            )


def _run(file: Path, images: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
    """What onnxruntime computes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {INPUT: images}), strict=True))
