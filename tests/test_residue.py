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
from fxtransport.residue import (
    Cost,
    Recompute,
    Reduction,
    Residue,
    batch_norm_again,
    mean_square_branch,
    power_cost,
)


def formula(residue: Tensor, p: float, reduction: str) -> Tensor:
    powers = residue.abs() ** p
    return powers.mean() if reduction == "mean" else powers.flatten(1).sum(1).mean()


def scaled_difference(factor: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return factor * (y - z)


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("p", [1, 1.5, 2, 3])
def test_powers(p: float, reduction: Reduction, recomputed: bool) -> None:
    """Values and gradients are those of the formula, at zeros too, where p > 1."""
    y, z = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    if p > 1:
        y[0, 0] = z[0, 0]
    y.requires_grad_()
    again = Recompute(scaled_difference, (y.detach(), z)) if recomputed else None
    found = power_cost(y - z, p, reduction, again)
    expected = formula(y - z, p, reduction)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(3 * cost, y)[0] for cost in (found, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_powers_of_low_precision_are_single(dtype: torch.dtype) -> None:
    """A sum of squares that half precision could not hold."""
    residue = torch.full((2, 10, 100), 40.0, dtype=dtype, requires_grad=True)
    cost = power_cost(residue, 2, "sum")
    assert cost.dtype == torch.float32
    assert cost.item() == 1600 * 1000
    (gradient,) = torch.autograd.grad(cost, residue)
    assert gradient.dtype == dtype
    assert torch.equal(gradient, torch.full_like(residue, 40))


def test_powers_can_be_differentiated_once() -> None:
    x = torch.ones(3, 2, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"differentiated once.* use program.transport"):
        torch.autograd.grad(power_cost(x, 2, "mean"), x, create_graph=True)


def test_powers_can_be_transformed() -> None:
    """By ``torch.func``, which knows no functions that save."""
    x = torch.randn(4, 3, 2)

    def cost(values: Tensor) -> Tensor:
        return power_cost(values, 2, "mean")

    gradients = torch.func.vmap(torch.func.grad(cost))(x)
    torch.testing.assert_close(gradients, x / 3)


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm2d(3), (4, 3, 5, 5)),
        (nn.BatchNorm1d(3), (4, 3)),
        (nn.BatchNorm2d(3, affine=False), (4, 3, 5, 5)),
        (nn.BatchNorm2d(3, track_running_stats=False), (4, 3, 5, 5)),
    ],
    ids=["2d", "1d", "no parameters", "no running statistics"],
)
def test_batch_norms_are_computed_again(norm: nn.Module, shape: tuple[int, ...]) -> None:
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    x = 5 + torch.randn(shape, dtype=torch.float64)
    normalised = norm.double()(x.requires_grad_())
    again = batch_norm_again(normalised)
    assert again is not None
    found = again.function(torch.tensor(3.0, dtype=torch.float64), *again.tensors)
    torch.testing.assert_close(found, 3 * normalised, rtol=1e-12, atol=1e-12)


def test_other_results_are_not_computed_again() -> None:
    x = torch.randn(4, 3, 5, 5, requires_grad=True)
    frozen = nn.BatchNorm2d(3)
    frozen.requires_grad_(False)
    assert batch_norm_again(frozen(x)) is None
    assert batch_norm_again(nn.BatchNorm2d(3).eval()(x)) is None
    assert batch_norm_again(nn.BatchNorm2d(3)(x).relu()) is None
    assert batch_norm_again(nn.GroupNorm(1, 3)(x)) is None
    assert batch_norm_again(x.detach()) is None


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
    """Where neighbours keep x_m and x_{m+1}, or a batch norm what it reads: only vectors."""
    program = compiled(name, modules).train()
    cost = TransportCost(residue=residue, kinds=("identity",))
    hidden: Tensor = torch.randn(4, 3, 32, 32)
    for part in program.parts:
        given = hidden
        without = kept_bytes(lambda part=part, x=given: part(x, cost=None))
        kept = kept_bytes(lambda part=part, x=given: part(x, cost=cost))
        measured = part(given, cost=cost)
        assert len(measured.energies) >= 2
        assert kept < without * 1.01
        hidden = measured.hidden.detach()


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

    def gradients(cost: Cost) -> tuple[Tensor | None, ...]:
        energies = program.whole(images, cost=cost).energies
        return torch.autograd.grad(energies.sum(), list(program.parameters()), allow_unused=True)

    for found, expected in zip(gradients(cost), gradients(by_formula), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_autocast_measures_in_single_precision() -> None:
    program = compiled("transformer", 2).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = program.parts[0](torch.randn(4, 3, 32, 32))
    assert output.energies.dtype == torch.float32
    output.energies.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in program.parts[0].parameters())


def test_default_is_the_mean_square_of_branches() -> None:
    program = compiled("post-activation", 1).eval()
    images = torch.randn(2, 3, 32, 32)
    expected = program.transport(images).energies
    assert torch.equal(program.whole(images).energies, expected)
    assert torch.equal(program.whole(images, cost=mean_square_branch).energies, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    "arranged",
    [
        lambda r: r,
        lambda r: r.contiguous(memory_format=torch.channels_last),
        lambda r: r.flatten(2).transpose(1, 2),
        lambda r: r[:, ::2],
        lambda r: r[:, :1].expand(-1, 5, -1, -1),
        lambda r: r.flatten(1),
        lambda r: r[:, 0, 0, 0],
        torch.zeros_like,
    ],
    ids=["NCHW", "NHWC", "tokens", "slice", "expanded", "vectors", "numbers", "zeros"],
)
def test_squares_are_summed_as_in_double_precision(
    arranged: Callable[[torch.Tensor], torch.Tensor], dtype: torch.dtype
) -> None:
    residue = arranged(torch.randn(16, 8, 56, 56).to(dtype))
    for reduction in ("mean", "sum"):
        expected = residue.double().square().sum()
        expected /= residue.numel() if reduction == "mean" else len(residue)
        found = power_cost(residue, 2, reduction)
        assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        torch.testing.assert_close(found.double(), expected, rtol=3e-7, atol=0)
