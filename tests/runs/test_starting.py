"""A model begins with the weights of a file, and what does not fit is said."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from fxtransport.errors import UsageError
from fxtransport.runs.starting import start_from
from tests.networks import Net


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return Net().state_dict()


WRITERS: dict[str, Callable[[Path, dict[str, torch.Tensor]], object]] = {
    "weights.safetensors": lambda path, found: save_file(found, path),
    "weights.pth": lambda path, found: torch.save(found, path),
    "last.pth.tar": lambda path, found: torch.save(
        {"epoch": 3, "arch": "net", "state_dict": found}, path
    ),
    "model.bin": lambda path, found: torch.save({"model": found}, path),
    "parallel.pth": lambda path, found: torch.save(
        {f"module.{name}": tensor for name, tensor in found.items()}, path
    ),
    "average.pth": lambda path, found: torch.save(
        {"state_dict": {n: t * 0 for n, t in found.items()}, "state_dict_ema": found}, path
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format(name: str, tmp_path: Path) -> None:
    found, model = state(), Net()
    WRITERS[name](tmp_path / name, found)
    said = start_from(model, tmp_path / name, classes=5)
    assert all(torch.equal(tensor, found[name]) for name, tensor in model.state_dict().items())
    assert said == f"begins with {len(found)} of {len(found)} tensors from {tmp_path / name}"


def test_a_head_for_other_classes_and_what_else_differs(tmp_path: Path) -> None:
    found = {**state(), "extra.weight": torch.zeros(1)}
    del found["stem.bias"], found["blocks.0.norm.num_batches_tracked"]
    torch.save(found, tmp_path / "w.pth")
    model = Net(classes=7)
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    lines = start_from(model, tmp_path / "w.pth", classes=7).splitlines()
    assert lines[1:] == [
        "  set aside, for another number of classes: head.weight, head.bias",
        "  not in the file: stem.bias",
        "  not in the model: extra.weight",
    ]
    after = model.state_dict()
    assert all(torch.equal(after[n], own[n]) for n in ("head.weight", "head.bias", "stem.bias"))
    assert torch.equal(after["blocks.3.conv.weight"], found["blocks.3.conv.weight"])


def test_timm_converts_what_it_can(tmp_path: Path) -> None:
    options = {"num_classes": 3, "depth": 1, "embed_dim": 32, "num_heads": 2}
    large = timm.create_model("vit_tiny_patch16_224", img_size=64, **options)
    torch.save(large.state_dict(), tmp_path / "vit.pth")
    small = timm.create_model("vit_tiny_patch16_224", img_size=32, **options)
    said = start_from(small, tmp_path / "vit.pth", classes=3)
    assert len(said.splitlines()) == 1
    assert torch.equal(small.patch_embed.proj.weight, large.patch_embed.proj.weight)
    assert not torch.equal(small.pos_embed, torch.zeros_like(small.pos_embed))


class Reader(nn.Linear):
    """Stands for a model of timm that reads what its authors wrote."""

    def load_pretrained(self, path: str) -> None:
        self.weight.data.fill_(len(Path(path).name))


def test_numpy_files_are_read_by_the_model(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"")
    model = Reader(2, 2)
    assert "as timm's Reader reads it" in start_from(model, tmp_path / "a.npz", classes=2)
    assert model.weight.unique().tolist() == [5.0]
    with pytest.raises(UsageError, match=r"Linear does not read \.npz"):
        start_from(nn.Linear(2, 2), tmp_path / "a.npz", classes=2)


class Gadget:
    """What a pickle may bring along."""


BAD: dict[str, tuple[Any, str]] = {
    "another width": (lambda: Net(width=6).state_dict(), "other shapes have stem.weight"),
    "another model": (lambda: nn.Linear(2, 2).state_dict(), "none of the weights of Net: it has w"),
    "code": (lambda: {"a": Gadget()}, "cannot read the weights"),
    "a number": (lambda: 3, "cannot read the weights"),
    "nothing": (dict, "it has nothing"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit(name: str, tmp_path: Path) -> None:
    make, words = BAD[name]
    torch.save(make(), tmp_path / "w.pth")
    model = Net()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with pytest.raises(UsageError, match=words):
        start_from(model, tmp_path / "w.pth", classes=5)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        start_from(Net(), tmp_path / "none.pth", classes=5)
    with pytest.raises(UsageError, match="holds no run"):
        start_from(Net(), tmp_path, classes=5)
    (tmp_path / "cut.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(UsageError, match="cannot read the weights"):
        start_from(Net(), tmp_path / "cut.safetensors", classes=5)
