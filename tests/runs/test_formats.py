"""Programs of torch.export, written and compared."""

import io
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fxtransport.errors import UsageError, VerificationError
from fxtransport.runs.formats import check_same, example_inputs, write_program


def examples(count: int) -> Tensor:
    return example_inputs((3,), count)


class Branching(nn.Module):
    """Asks its input for a number."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * 2 if inputs.sum() > 0 else inputs


def test_it_takes_batches_of_any_size_and_needs_no_class(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.BatchNorm1d(4)).eval()
    write_program(tmp_path / "x.pt2", model, examples, {"about.json": "{}"})
    extra = {"about.json": ""}
    loaded = torch.export.load(io.BytesIO((tmp_path / "x.pt2").read_bytes()), extra_files=extra)
    for count in (1, 2, 9):
        assert torch.allclose(loaded.module()(examples(count)), model(examples(count)))
    assert extra["about.json"] in ("{}", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt2"]


def test_what_cannot_be_exported_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^torch.export cannot export this model: .+$") as error:
        write_program(tmp_path / "x.pt2", Branching(), examples, {})
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_what_computes_other_numbers_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=r"what torch\.export loads computes other logits"):
        # whose inputs are never the same
        write_program(tmp_path / "x.pt2", nn.Linear(3, 2), lambda n: torch.randn(n, 3), {})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        write_program(tmp_path / "file" / "x.pt2", nn.Linear(3, 2), examples, {})


def test_numbers_that_round_differently_are_the_same() -> None:
    check_same(torch.ones(2) + 1e-6, torch.ones(2), "x")
    with pytest.raises(VerificationError, match=r"differ by up to 0\.01"):
        check_same(torch.ones(2) + 0.01, torch.ones(2), "x")
