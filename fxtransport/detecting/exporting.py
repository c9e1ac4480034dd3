"""The extractor as an ONNX model: what detectors read of images, for services without torch."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from fxtransport.detecting.image_detector import ImageDetector
from fxtransport.detecting.senses import Senses, Take
from fxtransport.detection.scene_statistics import SceneStatistics
from fxtransport.errors import UsageError
from fxtransport.onnx_files import require_onnx, write_onnx
from fxtransport.process import device_of

METADATA = "fxtransport"
NSS = "nss"
"""What is read of the pixels by matrices here."""
NOT_IN_ONNX = {
    "odin": "odin moves an image along a gradient of the model, for which ONNX has no operation",
    "stability": "layer-inconsistency reads logits of masked images, which take further forwards",
}
"""What detectors read that is not exported, and why."""


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
    require_onnx()
    names = outputs_of(found, detectors or tuple(found.detectors))
    module = Extraction(found.senses, names, found.identity.preprocessing.size).eval()
    described = json.dumps(found.identity.to_json())
    write_onnx(module, partial(_examples, found), names, file, {METADATA: described})
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


def _examples(found: ImageDetector, count: int) -> Tensor:
    """Images of noise, always the same."""
    size = found.identity.preprocessing.size
    generator = torch.Generator().manual_seed(count)
    images = torch.rand(count, *size, generator=generator)
    return images.to(device_of(found.senses.program))
