"""ONNX models of small modules, and what cannot be written."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fxtransport.errors import UsageError, VerificationError
from fxtransport.onnx_files import require_onnx, write_onnx

pytest.importorskip("onnxscript")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def examples(count: int) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(count))


class Forgetful(nn.Linear):
    """Computes something else each time."""

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            self.bias.add_(1)
        return super().forward(inputs)


@pytest.mark.slow
def test_it_is_run_on_batches_of_any_size_and_says_what_it_is_told(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    write_onnx(model, examples, ["scores"], tmp_path / "x.onnx", {"key": "value"})
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx")
    for count in (1, 7):
        [found] = session.run(["scores"], {"images": examples(count).numpy()})
        np.testing.assert_allclose(found, model(examples(count)).detach(), rtol=1e-4, atol=1e-5)
    assert session.get_modelmeta().custom_metadata_map["key"] == "value"
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]


@pytest.mark.slow
def test_what_computes_other_numbers_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_text("before")
    with pytest.raises(VerificationError, match=r"scores of \d images differs by up to"):
        write_onnx(Forgetful(3, 2).eval(), examples, ["scores"], tmp_path / "x.onnx", {})
    assert (tmp_path / "x.onnx").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]


def test_a_package_that_is_missing_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"onnxruntime is needed.*'fxtransport\[onnx\]'"):
        require_onnx()
