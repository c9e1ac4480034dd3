"""The ONNX model: what it returns, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fxtransport import onnx_files
from fxtransport.detecting.attack_text import parse_attacks
from fxtransport.detecting.exporting import export_extractor, outputs_of
from fxtransport.detecting.fitting import FitSettings, fit_detectors
from fxtransport.errors import UsageError, VerificationError
from tests.detecting.small import DETECTORS, detector, new_images, subject

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")


def test_outputs() -> None:
    assert outputs_of(detector(), DETECTORS) == ("logits", "transport", "penultimate")
    assert outputs_of(detector(), ["one-class"]) == ("logits", "transport")
    with pytest.raises(UsageError, match="no detector 'vim' was fitted"):
        outputs_of(detector(), ["vim"])


@pytest.mark.slow
def test_what_one_detector_of_several_reads(tmp_path: Path) -> None:
    found = fit_detectors(subject(), FitSettings(detectors=("mahalanobis", "odin"), images=150))
    with pytest.raises(UsageError, match=r"gradient of the model.* by name: mahalanobis$"):
        export_extractor(found, tmp_path / "x.onnx")
    names = export_extractor(found, tmp_path / "x.onnx", ["mahalanobis"])
    layers = [f"layer.{k}" for k in range(len(found.senses.extractor.layers))]
    assert names == ("logits", *layers)
    images = new_images().images[:5]
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx")
    expected = found.observe(images)
    for name, array in zip(names, session.run(names, {"images": images.numpy()}), strict=True):
        np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-5)


def test_odin_alone_is_refused_with_what_can_be_done() -> None:
    found = fit_detectors(subject(), FitSettings(detectors=("odin",), images=150))
    with pytest.raises(UsageError, match="such as max-softmax, which reads the logits"):
        outputs_of(found, ["odin"])
    beside = fit_detectors(subject(), FitSettings(detectors=("odin", "max-softmax"), images=150))
    assert outputs_of(beside, ["max-softmax"]) == ("logits",)


def test_masked_images_are_refused_with_what_can_be_done() -> None:
    names = ("layer-inconsistency", "max-softmax")
    found = fit_detectors(subject(), FitSettings(detectors=names, images=150))
    with pytest.raises(UsageError, match=r"masked images.* by name: max-softmax$"):
        outputs_of(found, names)


@pytest.mark.slow
def test_scene_statistics_are_exported(tmp_path: Path) -> None:
    """Of digits, of flat images, and of one bright pixel."""
    attacks = parse_attacks(["fgm{epsilon=0.1}"])
    found = fit_detectors(subject(), FitSettings(detectors=("nss",), attacks=attacks, images=150))
    assert export_extractor(found, tmp_path / "x.onnx") == ("logits", "nss")
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx")
    odd = torch.zeros(3, 1, 8, 8)
    odd[1], odd[2, 0, 3, 4] = 0.4, 1.0
    images = torch.cat([new_images().images, odd])
    [computed] = session.run(["nss"], {"images": images.numpy()})
    np.testing.assert_allclose(computed, found.observe(images)["nss"], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_an_extractor_that_computes_something_else_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = onnx_files._run

    def wrong(file: Path, images: np.ndarray) -> dict[str, np.ndarray]:
        return {name: array + 0.01 for name, array in run(file, images).items()}

    monkeypatch.setattr(onnx_files, "_run", wrong)
    with pytest.raises(VerificationError, match="logits of 1 images differs by up to"):
        export_extractor(detector(), tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        export_extractor(detector(), tmp_path / "file" / "x.onnx")
    assert not torch.is_inference_mode_enabled()
