"""A teacher says the same in any mode, without gradients, of images made its own."""

from typing import Any

import pytest
import torch
from timm.task.distillation import DistillationTeacher
from torch import nn

from fxtransport import transportify
from fxtransport.errors import UsageError
from fxtransport.objectives.transfer import LayerOf
from fxtransport.training import Bridge, Teacher
from fxtransport.training.teacher import hash_of
from tests.networks import IMAGES, Net, OverwritingNet

LAYERS = (LayerOf("blocks.1", (4, 8, 8), 1), LayerOf("penultimate", (4,), 1))


def teacher_of(net: nn.Module | None = None, **options: Any) -> Teacher:
    torch.manual_seed(0)
    names = ("blocks.1", "penultimate")
    net = Net(dropout=0.5) if net is None else net
    program = transportify(net, IMAGES, activations=names, verify=False)
    return Teacher(program, LAYERS, **options)


def test_it_says_what_it_does_in_eval_mode_without_gradients() -> None:
    teacher, images = teacher_of(), torch.randn(5, 3, 8, 8)
    teacher.program.train()
    said = teacher(images)
    assert teacher.program.blocks.training
    expected = teacher.program.eval().activations(images)
    for name in ("blocks.1", "penultimate"):
        value = expected[name].mean((2, 3)) if name == "blocks.1" else expected[name]
        assert torch.equal(said.activations[name], value)
        assert not said.activations[name].requires_grad
    assert said.logits is not None
    assert torch.equal(said.logits, teacher.program(images))
    assert all(p.requires_grad and p.grad is None for p in teacher.program.parameters())


def test_its_batch_norms_stay_as_they_are(net: OverwritingNet, images: torch.Tensor) -> None:
    teacher = teacher_of(net.train())
    before = hash_of(net.state_dict())
    teacher(images)
    assert hash_of(net.state_dict()) == before


def test_logits_are_left_out_where_nothing_asks_for_them() -> None:
    teacher = teacher_of()
    assert teacher.asked_for(logits=False)(torch.randn(2, 3, 8, 8)).logits is None
    assert teacher(torch.randn(2, 3, 8, 8)).logits is not None


def test_normalization_is_bridged_as_by_timm() -> None:
    own, other = ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)), ((0.1, 0.2, 0.3), (0.9, 0.8, 0.7))
    images = torch.rand(2, 3, 8, 8)
    timms = DistillationTeacher(Net())
    timms.mean_kd, timms.std_kd = (torch.tensor(v).view(1, -1, 1, 1) for v in other)
    expected = timms.normalize_input(images, *(torch.tensor(v).view(1, -1, 1, 1) for v in own))
    torch.testing.assert_close(Bridge(own=own, other=other)(images), expected)
    assert Bridge(own=own, other=own)(images) is images
    assert Bridge(own=own)(images) is images


def test_size_and_channels_are_bridged() -> None:
    gray = torch.rand(2, 1, 8, 8)
    found = Bridge(size=(3, 16, 12))(gray)
    assert found.shape == (2, 3, 16, 12)
    assert torch.equal(found[:, 0], found[:, 2])
    torch.testing.assert_close(found.mean(), gray.mean(), atol=0.02, rtol=0)
    assert Bridge(size=(3, 8, 8))(gray).shape == (2, 3, 8, 8)


def test_the_hash_is_of_names_dtypes_shapes_and_values() -> None:
    state = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(True)}
    others: list[dict[str, torch.Tensor]] = [
        {"a": state["a"].view(3, 2), "b": state["b"]},
        {"a": state["a"].double(), "b": state["b"]},
        {"a": state["a"], "c": state["b"]},
        {"a": state["a"] + 1e-6, "b": state["b"]},
        {"a": state["a"]},
    ]
    assert hash_of(state) == hash_of({k: v.clone() for k, v in reversed(state.items())})
    assert len({hash_of(state), *map(hash_of, others)}) == 6
    assert hash_of({"a": state["a"].mT}) == hash_of({"a": state["a"].mT.contiguous()})


class Folds(Net):
    """Puts patches into the batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.stem(x))
        pieces: torch.Tensor = self.head(x.movedim(1, -1).flatten(0, 2))
        return pieces.unflatten(0, (-1, 64)).mean(1)


def test_a_layer_without_a_row_for_each_image_is_refused() -> None:
    program = transportify(Folds(), IMAGES, activations=("penultimate",), verify=False)
    teacher = Teacher(program, LAYERS[1:], name="folds")
    with pytest.raises(UsageError, match="penultimate of folds has 128 rows for 2 images"):
        teacher(torch.zeros(2, 3, 8, 8))
