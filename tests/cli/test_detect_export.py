"""``fxtransport detect export``: an ONNX model that computes what torch does."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.running import Command
from tests.detecting.small import detector, new_images, saved

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.mark.slow
def test_the_extractor(run: Command, tmp_path: Path) -> None:
    file = tmp_path / "extractor.onnx"
    result = run("detect", "export", str(saved()), "--onnx", str(file))
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert "onnxruntime agrees with torch" in result.stderr
    session = onnxruntime.InferenceSession(file)
    described = json.loads(session.get_modelmeta().custom_metadata_map["fxtransport"])
    assert described == detector().identity.to_json()
    names = [output.name for output in session.get_outputs()]
    assert names == ["logits", "transport", "penultimate"]
    for count in (1, 7):
        images = new_images().images[:count]
        expected = detector().observe(images)
        found = session.run(names, {"images": images.numpy()})
        for name, array in zip(names, found, strict=True):
            np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-5)
    again = run("detect", "export", str(saved()), "--onnx", str(file))
    assert again.exit_code == 2
    assert "already exists: give another --onnx, or --force" in again.stderr


def test_a_missing_package_is_named(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    result = run("detect", "export", str(saved()), "--onnx", str(tmp_path / "x.onnx"))
    assert result.exit_code == 2
    assert "pip install 'fxtransport[onnx]'" in result.stderr
    assert not list(tmp_path.iterdir())
