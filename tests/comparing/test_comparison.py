"""Networks are compared, and the numbers are what one expects."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from fxtransport import transportify
from fxtransport.comparing import Network, compare, compare_along, open_network
from fxtransport.comparing.comparison import Comparison
from fxtransport.detecting.source import DataSource
from fxtransport.errors import CheckpointError, UsageError
from fxtransport.ot.symmetry import hidden_layers
from tests.ot.nets import Mean, Residual, randomize, reordered

DIGITS = DataSource.named("digits")


def resnet() -> nn.Module:
    """Two residual blocks of convolutions."""
    blocks = (
        Residual(nn.Conv2d(8, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 1))
        for _ in range(2)
    )
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), *blocks, Mean(), nn.Linear(8, 10))


def vit() -> nn.Module:
    """Two blocks of attention."""
    return VisionTransformer(
        img_size=8, patch_size=4, in_chans=1, num_classes=10, embed_dim=12, depth=2, num_heads=3
    )


MODELS: dict[str, Callable[[], nn.Module]] = {"resnet": resnet, "vit": vit}


def opened(kind: str, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    net = MODELS[kind]()
    randomize(net)
    program = transportify(net, torch.zeros(2, 1, 8, 8), verify=False)
    return Network(f"{kind} {seed}", program.eval(), {})


def compared(a: Network, b: Network, **how: Any) -> Comparison:
    return compare(a, b, DIGITS, samples=100, **how)


@pytest.fixture(scope="module")
def networks() -> dict[str, Network]:
    """A network of each kind; tests may not change it."""
    return {kind: opened(kind) for kind in MODELS}


@pytest.mark.parametrize("kind", MODELS)
def test_two_seeds(kind: str, networks: dict[str, Network]) -> None:
    found = compared(networks[kind], opened(kind, 1))
    assert found.samples == 100
    assert [pair.a for pair in found.pairs] == [pair.b for pair in found.pairs]
    *blocks, output = found.pairs
    assert output.a == "output"
    for pair in blocks:
        assert pair.similarity.kept is not None
        assert pair.similarity.kept < 0.8
        assert 0.1 < pair.similarity.soft_matching < 1.5
        assert pair.similarity.cka < 0.99
    assert found.conditional is not None
    assert 0 < found.conditional.transport < found.conditional.l2


@pytest.mark.parametrize("kind", MODELS)
def test_a_copy_whose_neurons_stand_in_another_order(
    kind: str, networks: dict[str, Network]
) -> None:
    one = networks[kind]
    program = copy.deepcopy(one.program)
    layers = hidden_layers(program, torch.zeros(1, *one.input_size))
    program.load_state_dict(reordered(program, layers))
    found = compared(one, Network("copy", program, {}))
    for pair in found.pairs:
        assert pair.similarity.kept == pytest.approx(1)
        assert pair.similarity.soft_matching == pytest.approx(0, abs=1e-4)
        assert pair.similarity.cka == pytest.approx(1, abs=1e-5)
    assert found.conditional is not None
    assert found.conditional.transport == 0
    assert found.conditional.l2 > 0.01


def test_two_architectures(networks: dict[str, Network]) -> None:
    found = compared(networks["resnet"], networks["vit"])
    assert found.conditional is None
    assert len(found.cka) == len(found.layers[0]) == len(found.pairs)
    assert {len(row) for row in found.cka} == {len(found.layers[1])}
    for pair, row in zip(found.pairs, found.cka, strict=True):
        assert pair.similarity.cka == pytest.approx(max(row))
    assert found.pairs[0].widths == (8, 12)
    assert found.pairs[0].similarity.kept is None


def test_the_samples_are_those_of_the_split(networks: dict[str, Network]) -> None:
    vit = networks["vit"]
    one, two = (compared(vit, vit, split=split) for split in ("validation", "test"))
    assert one.pairs[0].similarity.cka == pytest.approx(1)
    assert one.cka[0][1] != two.cka[0][1]


def test_what_cannot_be_compared(networks: dict[str, Network]) -> None:
    vit = networks["vit"]
    with pytest.raises(UsageError, match="neither vit 0 nor vit 0 is a run"):
        compare(vit, vit)
    with pytest.raises(UsageError, match="split is 'train'"):
        compared(vit, vit, split="train")
    with pytest.raises(UsageError, match="is not a run, which alone has weights of epochs"):
        open_network("timm:resnet10t", epoch=2)
    with pytest.raises(CheckpointError, match="nowhere does not hold a checkpoint"):
        next(compare_along("nowhere"))
