"""Residues as costs see them: right numbers, right gradients, and nothing more kept for them."""

from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from fxtransport import Program, transportify
from fxtransport.ir import Kind
from fxtransport.nets import cifar_resnet, resnet_m
from fxtransport.objectives import TransportCost
from fxtransport.residue import Measure, Residue, mean_square_branch
from tests.residue.formulas import formula


def kept_bytes(run: Callable[[], object]) -> int:
    """The bytes that autograd keeps of a forward pass, each storage once."""
    storages: dict[int, int] = {}
    alive: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        alive.append(tensor)
        storages[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        returned = run()
    assert returned is not None
    return sum(storages.values())


def vgg_like() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, padding=1)]
    for _ in range(4):
        layers += [nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


def vit() -> nn.Module:
    options = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 4, "num_heads": 2}
    return timm.create_model("vit_tiny_patch16_224", num_classes=10, **options)


NETS: dict[str, Callable[[], nn.Module]] = {
    "post-activation": lambda: cifar_resnet(26),
    "post-activation of timm": lambda: timm.create_model("resnet18", num_classes=10),
    "pre-activation": lambda: resnet_m(4, channels=8, in_chans=3, image_size=32),
    "transformer": vit,
    "layers": vgg_like,
}


def compiled(name: str, modules: int) -> Program:
    torch.manual_seed(0)
    return transportify(NETS[name](), torch.zeros(2, 3, 32, 32), modules=modules, verify=False)


@pytest.mark.parametrize("modules", [1, 2])
@pytest.mark.parametrize("residue", ["branch", "displacement"])
@pytest.mark.parametrize("name", NETS)
def test_costs_keep_next_to_nothing(name: str, residue: str, modules: int) -> None:
    """Where neighbors keep x_m and x_{m+1}, or a batch norm what it reads: only vectors."""
    program = compiled(name, modules).train()
    cost = TransportCost(residue=residue, kinds=("identity",))
    hidden: Tensor = torch.randn(4, 3, 32, 32)
    for part in program.parts:
        given = hidden
        without = kept_bytes(lambda part=part, x=given: part(x, measure=None))
        kept = kept_bytes(lambda part=part, x=given: part(x, measure=cost))
        measured = part(given, measure=cost)
        assert len(measured.costs) >= 2
        hidden = measured.hidden.detach()
        # what leaves a part is kept by the next one
        left = 0 if part.is_last else hidden.nbytes
        assert kept < (without + left) * 1.01


@pytest.mark.parametrize("residue", ["branch", "displacement"])
@pytest.mark.parametrize("name", NETS)
def test_gradients_are_those_of_the_formula(name: str, residue: str) -> None:
    """Of the cost alone, with everything computed again."""
    program = compiled(name, 1).train()
    images = torch.randn(4, 3, 32, 32)

    cost = TransportCost(residue=residue, kinds=("identity",))

    def by_formula(block: Residue) -> Tensor | None:
        is_identity = block.kind is Kind.IDENTITY
        return formula(getattr(block, residue), 2, "mean") if is_identity else None

    def gradients(cost: Measure) -> tuple[Tensor | None, ...]:
        energies = program.whole(images, measure=cost).costs
        return torch.autograd.grad(energies.sum(), list(program.parameters()), allow_unused=True)

    for found, expected in zip(gradients(cost), gradients(by_formula), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_autocast_measures_in_single_precision() -> None:
    program = compiled("transformer", 2).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = program.parts[0](torch.randn(4, 3, 32, 32))
    assert output.costs.dtype == torch.float32
    output.costs.sum().backward()
    gradients = [p.grad for p in program.parts[0].parameters() if p.grad is not None]
    assert any(gradient.any() for gradient in gradients)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_default_is_the_mean_square_of_branches() -> None:
    program = compiled("post-activation", 1).eval()
    images = torch.randn(2, 3, 32, 32)
    expected = program.transport(images).energies
    assert torch.equal(program.whole(images).costs, expected)
    assert torch.equal(program.whole(images, measure=mean_square_branch).costs, expected)
