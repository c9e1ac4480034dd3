"""Norms and activations that are computed again: the same bits, and less that is kept."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from fxtransport import recompute_norms, transportify
from fxtransport.errors import TrainingError, UsageError
from fxtransport.nets import cifar_resnet
from fxtransport.objectives import trgl
from fxtransport.recompute_norms import recomputing
from fxtransport.residue import BatchNorm
from fxtransport.training import (
    EndToEnd,
    MultiLap,
    Parallel,
    Schedule,
    Trainer,
    TrainerSettings,
)
from tests.recomputed_networks import NETS, Steps, conv

IMAGES = torch.randn(3, 4, 6, 6, generator=torch.Generator().manual_seed(0))


def grads(
    net: nn.Module, enabled: bool, images: Tensor = IMAGES, times: int = 1
) -> dict[str, Tensor]:
    """What a net returns, its gradients and its buffers."""
    torch.manual_seed(0)
    net = copy.deepcopy(net)
    x = images.clone().requires_grad_()
    with recomputing(enabled):
        y = net(x)
    loss = y.float().square().sum()
    for k in range(times):
        loss.backward(retain_graph=k + 1 < times)
    assert x.grad is not None
    named = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    return {"y": y.detach(), "x": x.grad, **named, **dict(net.named_buffers())}


def assert_same(net: nn.Module, images: Tensor = IMAGES, times: int = 1) -> None:
    found, expected = (grads(net, enabled, images, times) for enabled in (True, False))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def kept(net: nn.Module, enabled: bool) -> int:
    """The bytes of the maps that autograd and what stands in for them hold after a forward."""
    found: dict[int, int] = {}

    class Log(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else (out,):
                if isinstance(tensor, Tensor) and tensor.numel() == IMAGES.numel():
                    storage = tensor.untyped_storage()
                    made.append(
                        (torch.multiprocessing.reductions.StorageWeakRef(storage), storage.nbytes())
                    )
            return out

    made: list[tuple[torch.multiprocessing.reductions.StorageWeakRef, int]] = []
    with Log(), recomputing(enabled):
        y = net(IMAGES.clone().requires_grad_())
    for ref, size in made:
        if not ref.expired():
            found[ref.cdata] = size
    assert y.requires_grad
    return len(found)


@pytest.mark.parametrize("name", NETS)
def test_the_same_bits_and_fewer_maps(name: str) -> None:
    make, fewer = NETS[name]
    torch.manual_seed(0)
    net = make()
    assert_same(net)
    assert_same(net, times=2)
    assert kept(net, False) - kept(net, True) == fewer


@pytest.mark.parametrize("name", NETS)
def test_in_mixed_precision(name: str) -> None:
    torch.manual_seed(0)
    net = NETS[name][0]()
    with torch.autocast("cpu", torch.bfloat16):
        assert_same(net)


def test_every_other_sum_is_kept() -> None:
    """So that no chain of sums must be computed again."""
    torch.manual_seed(0)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = conv(), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x + self.norm(self.conv(x)))

    net = nn.Sequential(*(Block() for _ in range(6)))
    assert_same(net)
    # a block keeps two maps: what its norm was given, and its result, of which every other is
    assert kept(net, False) - kept(net, True) == 3


def test_second_derivatives() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(conv(), nn.BatchNorm2d(4), nn.SiLU(), conv())
    found = []
    for enabled in (True, False):
        x = IMAGES.clone().requires_grad_()
        with recomputing(enabled):
            y = net(x)
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), [x, *net.parameters()]))
    assert all(map(torch.equal, *found))


def test_hooks_of_others_go_first() -> None:
    net = nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU(), conv())
    packed: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: packed.append(tensor) or tensor, lambda tensor: tensor
    ):
        assert_same(net)
    assert packed


def test_what_was_overwritten_is_refused() -> None:
    net = Steps(
        lambda net, x: net.norm(net.conv(x)) + net.skip,
        lambda net, x: (net.last(x), net.skip.zero_())[0],
        conv=conv(),
        norm=nn.BatchNorm2d(4),
        last=conv(),
    )
    x = IMAGES.clone()
    with recomputing(True):
        y = net(x)
    with pytest.raises(TrainingError, match=r"of \(3, 4, 6, 6\) was overwritten.*recompute_norms"):
        y.sum().backward()


def test_a_norm_is_computed_as_the_first_time_where_one_pass_has_other_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU(), conv())
    other = BatchNorm.in_one_pass
    monkeypatch.setattr(recompute_norms, "_WAYS", {})
    monkeypatch.setattr(BatchNorm, "in_one_pass", lambda norm: lambda: other(norm)() + 1e-6)
    assert_same(net)
    assert [*recompute_norms._WAYS.values()] == [BatchNorm.once_more]
    assert kept(net, False) - kept(net, True) == 1
    monkeypatch.setattr(recompute_norms, "_WAYS", {})
    monkeypatch.setattr(BatchNorm, "once_more", BatchNorm.in_one_pass)
    with pytest.raises(TrainingError, match=r"\(3, 4, 6, 6\) in torch.float32 on cpu cannot be"):
        grads(net, True)


def trained(schedule: Schedule, modules: int, **settings: Any) -> dict[str, Tensor]:
    torch.manual_seed(0)
    net = cifar_resnet(8, width=4, image_size=8)
    program = transportify(net, torch.zeros(2, 3, 8, 8), modules=modules)
    options = TrainerSettings(seed=0, **settings)
    images, targets = torch.randn(4, 3, 8, 8), torch.arange(4)
    Trainer(program, trgl(0.5), schedule, settings=options).fit([(images, targets)] * 3)
    return program.state_dict()


@pytest.mark.parametrize(
    ("schedule", "modules"), [(EndToEnd(2), 1), (Parallel(2), 2), (MultiLap(2, laps=2), 2)]
)
@pytest.mark.parametrize("more", [{}, {"checkpoint_activations": True}, {"amp": "bf16"}])
def test_training_is_the_same(schedule: Schedule, modules: int, more: dict[str, Any]) -> None:
    found = trained(schedule, modules, recompute_norms=True, **more)
    expected = trained(schedule, modules, **more)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_parts_hand_it_on() -> None:
    net = cifar_resnet(8, width=4, image_size=8)
    program = transportify(net, torch.zeros(2, 3, 8, 8), modules=2, verify=False)
    program.parts[1].recompute_norms = True
    other = copy.deepcopy(program)
    assert [part.recompute_norms for part in other.parts] == [False, True]
    assert pickle.loads(pickle.dumps(program.parts[1])).recompute_norms


def test_compiled_training_is_refused() -> None:
    with pytest.raises(UsageError, match="recompute_norms cannot be used with compile"):
        TrainerSettings(recompute_norms=True, compile="eager")


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "conv": conv,
    "norm": lambda: nn.BatchNorm2d(4),
    "relu": nn.ReLU,
    "relu_": lambda: nn.ReLU(inplace=True),
    "silu": nn.SiLU,
    "silu_": lambda: nn.SiLU(inplace=True),
    "gelu": nn.GELU,
    "leaky_": lambda: nn.LeakyReLU(inplace=True),
    "layer norm": lambda: nn.LayerNorm(6),
    "group norm": lambda: nn.GroupNorm(2, 4),
    "hardswish_": lambda: nn.Hardswish(inplace=True),
    "nothing": nn.Identity,
    "dropout": lambda: nn.Dropout(0.3),
    "none dropped": lambda: nn.Dropout(0.0),
    "turned": lambda: Steps(lambda _, x: x.transpose(2, 3)),
    "flat": lambda: Steps(lambda _, x: x.flatten(1).view(3, 4, 6, 6)),
}
SUMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "x + y": lambda x, y: x + y,
    "y + x": lambda x, y: y + x,
    "x += y": lambda x, y: x.add_(y),
    "x * y": lambda x, y: x * y,
    "y * gate": lambda x, y: y * x.mean((2, 3), keepdim=True),
    "cat": lambda x, y: torch.cat([x[:, :2], y[:, 2:]], dim=1),
}


class Random(nn.Module):
    """Layers, and operations with the result of an earlier layer."""

    def __init__(self, names: list[tuple[str, int]]) -> None:
        super().__init__()
        self.plan = names
        self.layers = nn.ModuleList(LAYERS[n]() if n in LAYERS else nn.Identity() for n, _ in names)

    def forward(self, x: Tensor) -> Tensor:
        seen = [x.sin()]
        for layer, (name, back) in zip(self.layers, self.plan, strict=True):
            now = layer(seen[-1])
            if name in SUMS:
                now = SUMS[name](now, seen[-1 - back % len(seen)])
            seen.append(now)
        return seen[-1]


@settings(max_examples=120)
@given(
    st.lists(
        st.tuples(st.sampled_from([*LAYERS, *SUMS, "conv", "norm"]), st.integers(0, 4)),
        min_size=1,
        max_size=12,
    )
)
def test_random_networks(names: list[tuple[str, int]]) -> None:
    torch.manual_seed(0)
    net = Random(names)
    try:
        expected = grads(net, False)
    except RuntimeError:
        return  # what a gradient needs was overwritten
    try:
        found = grads(net, True)
    except TrainingError as error:
        assert "was overwritten" in str(error)
        return
    for name, value in expected.items():
        assert torch.equal(found[name].nan_to_num(), value.nan_to_num()), name
