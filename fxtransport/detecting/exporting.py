"""The extractor as an ONNX model: what detectors read of images, for services without torch."""

import io
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fxtransport.detecting.image_detector import ImageDetector
from fxtransport.detecting.senses import Senses, Take
from fxtransport.detection.scene_statistics import SceneStatistics
from fxtransport.errors import UsageError, VerificationError, first_line
from fxtransport.files import path_beside, put
from fxtransport.process import device_of

INPUT = "images"
METADATA = "fxtransport"
NSS = "nss"
"""What is read of the pixels by matrices here."""
NOT_IN_ONNX = {
    "odin": "odin moves an image along a gradient of the model, for which ONNX has no operation",
    "stability": "layer-inconsistency reads logits of masked images, which take further forwards",
}
"""What detectors read that is not exported, and why."""

_BATCHES = (1, 3)
_RTOL, _ATOL = 1e-3, 1e-4


class Extraction(nn.Module):
    """From pixels, B×C×H×W from 0 to 1, to the arrays that detectors read, in order.

    Args:
        senses: What is read.
        names: Of the arrays.
        size: (C, H, W) of the images.
    """

    def __init__(self, senses: Senses, names: tuple[str, ...], size: tuple[int, int, int]) -> None:
        super().__init__()
        self.extractor = senses.extractor
        self.names = names
        self._further: dict[str, Take] = dict(senses.further)
        if NSS in names:
            self.scene = SceneStatistics(*size[1:]).to(device_of(senses.program))
            self._further[NSS] = self.scene

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The arrays, B×F each."""
        found = self.extractor(images)
        return tuple(
            self._further[name](images).float() if name in self._further else found[name]
            for name in self.names
        )


def export_extractor(
    found: ImageDetector, file: Path, detectors: Sequence[str] = ()
) -> tuple[str, ...]:
    """Write an ONNX model from pixels to what the detectors read, and check it.

    Its input ``images`` is B×C×H×W, float32, pixels from 0 to 1, for any B; normalization is
    inside. Its outputs are ``logits`` and the arrays by their names, B×F, float32. Its metadata
    have the classes, the preprocessing and the hashes of the model, as JSON.

    Args:
        found: The detectors, with their model.
        file: Where; a file that is there is replaced.
        detectors: The names of those whose arrays are returned; all by default.

    Returns:
        The names of the outputs.

    Raises:
        UsageError: a package is missing, there is no such detector, one reads what ONNX cannot
            compute, or the file cannot be written.
        VerificationError: onnxruntime computes other numbers.
    """
    _require()
    names = outputs_of(found, detectors or tuple(found.detectors))
    module = Extraction(found.senses, names, found.identity.preprocessing.size).eval()
    example = _examples(found, 2)
    try:
        with path_beside(file) as beside:
            _export(module, example, names, beside)
            _describe(beside, found)
            for count in _BATCHES:
                _verify(module, _examples(found, count), names, beside)
            put(beside, file)
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror or error}") from error
    return names


def outputs_of(found: ImageDetector, detectors: Sequence[str]) -> tuple[str, ...]:
    """The names of what detectors read, logits first.

    Raises:
        UsageError: there is no such detector, or one reads what ONNX cannot compute.
    """
    reads = {"logits", *(array for name in detectors for array in found.named(name).reads)}
    for array, reason in NOT_IN_ONNX.items():
        if array in reads:
            raise UsageError(f"{reason}; {_instead(found)}")
    layers = [f"layer.{k}" for k in range(len(found.senses.extractor.layers))]
    order = ["logits", "transport", "penultimate", *layers, "laplacian", NSS]
    return tuple(name for name in order if name in reads or ("layer" in reads and name in layers))


def _instead(found: ImageDetector) -> str:
    """What can be exported, where something cannot."""
    others = [
        name for name, each in found.detectors.items() if not NOT_IN_ONNX.keys() & {*each.reads}
    ]
    if others:
        return f"export what the other detectors read, by name: {', '.join(others)}"
    return "fit another detector, such as max-softmax, which reads the logits"


def _require() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"{error.name} is needed to export, and is not installed: "
            "pip install 'fxtransport[onnx]'"
        ) from error


def _examples(found: ImageDetector, count: int) -> Tensor:
    """Images of noise, always the same."""
    size = found.identity.preprocessing.size
    generator = torch.Generator().manual_seed(count)
    images = torch.rand(count, *size, generator=generator)
    return images.to(device_of(found.senses.program))


def _export(module: nn.Module, example: Tensor, names: tuple[str, ...], file: Path) -> None:
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
            f"torch.onnx cannot export what the detectors read: {first_line(error)}"
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


def _describe(file: Path, found: ImageDetector) -> None:
    """Write the classes, the preprocessing and the hashes into the metadata."""
    import onnx

    model = onnx.load(file)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA, json.dumps(found.identity.to_json())
    onnx.save(model, file)


def _verify(module: nn.Module, images: Tensor, names: tuple[str, ...], file: Path) -> None:
    """Compare what onnxruntime computes with what torch does.

    Raises:
        VerificationError: it differs.
    """
    expected = dict(zip(names, (each.cpu().numpy() for each in module(images)), strict=True))
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
