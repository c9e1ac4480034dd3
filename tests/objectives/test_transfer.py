"""Penalties are those of the paper, of timm's tasks, and of each part its own."""

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import timm
import torch
from timm.task import FeatureDistillationTask, LogitDistillationTask
from torch import Tensor, nn

from fxtransport import ot, transportify
from fxtransport.errors import UsageError
from fxtransport.objectives.penalties import decayed, soft_divergence
from fxtransport.objectives.transfer import (
    LayerOf,
    PairedLayer,
    Reference,
    Regularizer,
    TransferOptions,
)
from fxtransport.program import Program
from fxtransport.residue import mean_square_branch
from tests.networks import IMAGES, Net


def paired(own: int = 4, other: int = 4, name: str = "penultimate", part: int = 0) -> PairedLayer:
    return PairedLayer(LayerOf(name, (own,), 1), LayerOf("theirs", (other,), 1), part)


def program_of(**options: Any) -> Program:
    torch.manual_seed(0)
    names = ("blocks.0", "penultimate")
    return transportify(Net(), IMAGES, activations=names, verify=False, **options)


def layers_of(modules: int) -> tuple[PairedLayer, ...]:
    """A map in the first part, and what enters the classifier in the last."""
    first = PairedLayer(LayerOf("blocks.0", (4, 8, 8), 1), LayerOf("early", (6,), 1), 0)
    return first, paired(other=6, part=modules - 1)


def reference(batch: int, width: int = 6) -> Reference:
    found = {name: torch.randn(batch, width) for name in ("early", "theirs")}
    return Reference(found, torch.randn(batch, 5))


@pytest.mark.parametrize("name", ["ot", "uniform", "sinkhorn", "partial"])
def test_penalties_of_layers_are_omega(name: str) -> None:
    program, images = program_of(), torch.randn(7, 3, 8, 8)
    regularizer = Regularizer({name: 1.0}, layers_of(1), TransferOptions(p=2.0, mass=0.5))
    said = reference(7)
    output = program.whole(images, measure=regularizer.measures(mean_square_branch))
    output, penalties = regularizer(program.whole, output, said)
    own = program.activations(images)
    plan = {"ot": "exact"}.get(name, name)
    expected = sum(
        ot.omega(a.T, said.activations[other].T, plan, p=2.0, mass=0.5).item()
        for a, other in ((own["blocks.0"].mean((2, 3)), "early"), (own["penultimate"], "theirs"))
    )
    assert penalties.keys() == {name}
    assert penalties[name].item() == pytest.approx(expected, rel=1e-6)
    plain = program.whole(images, measure=mean_square_branch)
    assert torch.equal(output.costs, plain.costs)
    assert regularizer.total(penalties).item() == pytest.approx(expected, rel=1e-6)
    regularizer.total(penalties).backward()
    assert all(p.grad is not None for p in program.stem.parameters())


def test_each_part_has_its_own_layers() -> None:
    program, images = program_of(modules=2), torch.randn(7, 3, 8, 8)
    regularizer = Regularizer("ot:1,kd:1", layers_of(2))
    said = reference(7)
    hidden: Any = images
    for part in program.parts:
        output = part(hidden, measure=regularizer.measures(None))
        hidden, (output, penalties) = output.hidden, regularizer(part, output, said)
        other = "early" if part.index == 0 else "theirs"
        name = "blocks.0" if part.index == 0 else "penultimate"
        own = program.activations(images)[name]
        own = own.mean((2, 3)) if own.dim() == 4 else own
        expected = ot.omega(own.T, said.activations[other].T)
        assert penalties["ot"].item() == pytest.approx(expected.item(), rel=1e-5)
        assert said.logits is not None
        assert torch.equal(penalties["kd"], soft_divergence(output.logits, said.logits, 4.0))


def test_a_part_without_a_layer_has_no_penalty_on_layers() -> None:
    program = program_of(modules=2)
    regularizer = Regularizer("ot:1", layers_of(2)[1:])
    output = program.parts[0](torch.randn(7, 3, 8, 8), measure=regularizer.measures(None))
    output, penalties = regularizer(program.parts[0], output, reference(7))
    assert penalties == {}
    assert output.costs.numel() == 0


def test_positions_are_samples() -> None:
    own, other = torch.randn(3, 8, 4), torch.randn(3, 8, 6)
    regularizer = Regularizer("ot:1", [paired(other=6)], TransferOptions(pool="none"))
    found = regularizer._of_layer("ot", 0, own, other)
    expected = ot.omega(own.reshape(24, 4).T, other.reshape(24, 6).T)
    assert found.item() == expected.item()


def test_permuted_neurons_change_nothing_but_identity() -> None:
    own, other = torch.randn(9, 6), torch.randn(9, 6)
    permuted = own[:, torch.randperm(6)]
    regularizer = Regularizer("ot:1,identity:1", [paired(6, 6)])
    same, moved = (
        [regularizer._of_layer(n, 0, a, other).item() for a in (own, permuted)]
        for n in ("ot", "identity")
    )
    assert same[0] == pytest.approx(same[1], rel=1e-6)
    assert moved[0] != pytest.approx(moved[1], rel=1e-3)
    assert same[0] <= min(moved) * (1 + 1e-6)


class Distilled(nn.Module):
    """What timm's tasks want of a model."""

    num_classes, in_chans = 5, 3
    pretrained_cfg: ClassVar[dict[str, Any]] = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.2)}

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.num_features = width
        self.net = Net(width=width)

    def forward_features(self, x: Tensor) -> Tensor:
        found: Tensor = self.net.blocks(self.net.stem(x)).mean((2, 3))
        return found

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return x if pre_logits else self.net.head(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_is_that_of_timm(temperature: float) -> None:
    student, teacher, images = Distilled(), Distilled(), torch.randn(6, 3, 8, 8)
    task = LogitDistillationTask(
        student, teacher, nn.CrossEntropyLoss(), temperature=temperature, verbose=False
    )
    expected = task(images, torch.zeros(6, dtype=torch.int64))["kd_loss"]
    found = soft_divergence(student(images), teacher(images), temperature)
    torch.testing.assert_close(found, expected)


def test_feature_is_that_of_timm() -> None:
    student, teacher, images = Distilled(), Distilled(), torch.randn(6, 3, 8, 8)
    task = FeatureDistillationTask(student, teacher, nn.CrossEntropyLoss(), verbose=False)
    expected = task(images, torch.zeros(6, dtype=torch.int64))["kd_loss"]
    regularizer = Regularizer("feature:1", [paired()])
    own, other = (model.forward_features(images) for model in (student, teacher))
    torch.testing.assert_close(regularizer._of_layer("feature", 0, own, other.detach()), expected)
    assert not [*regularizer.parameters()]


def test_feature_of_another_width_is_that_of_timm() -> None:
    student, teacher, images = Distilled(), Distilled(6), torch.randn(6, 3, 8, 8)
    task = FeatureDistillationTask(student, teacher, nn.CrossEntropyLoss(), verbose=False)
    expected = task(images, torch.zeros(6, dtype=torch.int64))["kd_loss"]
    regularizer = Regularizer("feature:1", [paired(4, 6)])
    projection = task.trainable_module.projection
    regularizer.projections["0"].load_state_dict(projection.state_dict())
    own, other = (model.forward_features(images) for model in (student, teacher))
    torch.testing.assert_close(regularizer._of_layer("feature", 0, own, other.detach()), expected)
    whole = SimpleNamespace(index=0, is_last=True)
    assert len(regularizer.learned(whole)) == 2
    assert regularizer.learned(SimpleNamespace(index=1, is_last=False)) == []


def test_penalties_on_weights() -> None:
    program = program_of()
    start = {n: p.detach() + 1 for n, p in program.named_parameters() if n.startswith("blocks")}
    regularizer = Regularizer("l2:1,l2-sp:1", start=start)
    output = program.whole(IMAGES, measure=regularizer.measures(None))
    _, penalties = regularizer(program.whole, output, None)
    weights = [p for n, p in program.named_parameters() if p.dim() > 1]
    assert penalties["l2"].item() == pytest.approx(
        sum(w.detach().pow(2).sum().item() for w in weights) / 2
    )
    assert penalties["l2-sp"].item() == pytest.approx(sum(t.numel() for t in start.values()) / 2)


def test_l2_spares_what_weight_decay_spares() -> None:
    vit = timm.create_model("test_vit")
    program = SimpleNamespace(
        named_parameters=vit.named_parameters, no_weight_decay=vit.no_weight_decay
    )
    spared = decayed(program)
    program.no_weight_decay = frozenset
    whole = decayed(program)
    assert spared is not None
    assert whole is not None
    assert whole > spared


def test_a_step_has_the_gradient_of_the_sum() -> None:
    """The gradient of total is the weighted sum of those of the penalties."""
    program, images, said = program_of(), torch.randn(7, 3, 8, 8), reference(7)

    def gradient(text: str) -> Tensor:
        program.zero_grad()
        regularizer = Regularizer(text, layers_of(1))
        output = program.whole(images, measure=regularizer.measures(None))
        _, penalties = regularizer(program.whole, output, said)
        regularizer.total(penalties).backward()
        assert program.stem.weight.grad is not None
        return program.stem.weight.grad.clone()

    program.eval()
    both = gradient("ot:0.5,kd:3")
    torch.testing.assert_close(both, 0.5 * gradient("ot:1") + 3 * gradient("kd:1"))


def test_measures_are_one_object_so_that_nothing_is_compiled_again() -> None:
    regularizer = Regularizer("ot:1", [paired()])
    first = regularizer.measures(mean_square_branch)
    assert regularizer.measures(mean_square_branch) is first
    assert regularizer.measures(None) is not first


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Regularizer("ot:1"), "ot compares layers, and none are paired"),
        (lambda: Regularizer("identity:1", [paired(4, 6)]), "has 4 neurons and theirs .* 6; take"),
        (lambda: Regularizer("l2-sp:1"), "l2-sp pulls parameters"),
        (lambda: TransferOptions(temperature=0), "temperature is 0; it must be a positive"),
        (lambda: TransferOptions(p=0.5), "p is 0.5"),
        (lambda: TransferOptions(pool="max"), "pool is 'mean'"),
    ],
)
def test_what_is_refused(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
