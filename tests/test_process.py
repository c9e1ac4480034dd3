"""A compile leaves the caller's process as it was, also where it is refused or interrupted."""

import builtins
import gc
import random
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules
from torch.utils import checkpoint
from torch.utils._python_dispatch import _get_current_dispatch_mode

from fxtransport import transportify
from fxtransport.errors import FxTransportError
from fxtransport.process import (
    device_of,
    devices_of,
    preserve_process,
    seed_generators,
    without_collections,
)
from tests.networks import VectorNet

NAMES = [name for name in sorted(dir(torch)) if name.islower() and name != "manual_seed"]
"""What torch has at the start. Its compiler replaces ``manual_seed`` when it is first imported."""


class Meddles(VectorNet):
    """Changes, or tries to, all that a forward can change; then it may raise."""

    def __init__(self, error: type[BaseException] | None = None) -> None:
        super().__init__()
        self.error = error
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        warnings.simplefilter("ignore")
        x = super().forward(self.drop(x))
        if self.error is not None:
            raise self.error("as it was told")
        return x


def generators() -> list[Any]:
    """The states of the generators."""
    algorithm, keys, *rest = np.random.get_state(legacy=True)
    state = torch.get_rng_state().tolist()
    return [random.getstate(), algorithm, keys.tolist(), rest, state]


def flags() -> list[Any]:
    """What is global in torch and Python."""
    return [
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.is_autocast_enabled("cuda"),
        torch.backends.mha.get_fastpath_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_anomaly_enabled(),
        gc.isenabled(),
        torch.cuda.is_initialized(),
        len(torch.cuda._queued_calls),
        list(warnings.filters),
        warnings.showwarning,
    ]


def functions() -> list[Any]:
    """Functions that passes replace while they run, and hooks of all modules."""
    hooks = [list(value) for name, value in vars(modules).items() if name.endswith("_hooks")]
    found = [getattr(torch, name) for name in NAMES]
    patched = [builtins.len, nn.Module.__call__, *vars(torch.Tensor).values()]
    return [*hooks, *found, *patched, *vars(checkpoint).values()]


def of(model: nn.Module) -> list[Any]:
    """What could change of a model."""
    state = [(name, x.tolist()) for name, x in model.state_dict().items()]
    tensors = [(p.requires_grad, p.grad, p._version) for p in model.parameters()]
    attributes = [(sorted(vars(m)), type(m), m.training) for m in model.modules()]
    hooks = [len(value) for m in model.modules() for k, value in vars(m).items() if "hooks" in k]
    return [state, tensors, attributes, hooks]


def everything(model: nn.Module) -> list[Any]:
    """All of it."""
    return [generators(), flags(), functions(), of(model)]


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_a_compile_leaves_nothing(verify: bool, error: type[BaseException] | None) -> None:
    model = Meddles(error)
    model[0].eval()
    model[1].get_parameter("linear.weight").requires_grad_(False)
    before = everything(model)
    if error is None:
        transportify(model, torch.zeros(2, 6), verify=verify, head="none")
    else:
        with pytest.raises((FxTransportError, error)):
            transportify(model, torch.zeros(2, 6), verify=verify, head="none")
    assert everything(model) == before


def test_an_interrupt_in_verification_leaves_nothing() -> None:
    class Interrupts(nn.ReLU):
        def forward(self, x: Tensor) -> Tensor:
            if _get_current_dispatch_mode() is None:
                torch.rand(3)
                self.register_buffer("drawn", torch.zeros(3))
                raise KeyboardInterrupt
            return super().forward(x)

    model = nn.Sequential(*VectorNet(), Interrupts())
    before = everything(model)
    transportify(model, torch.zeros(2, 6), verify=False, head="none")
    with pytest.raises(KeyboardInterrupt):
        transportify(model, torch.zeros(2, 6), head="none")
    assert everything(model) == before


def test_the_seed_decides_what_heads_are_drawn_and_nothing_else() -> None:
    def drawn(seed: int, verify: bool) -> tuple[Tensor, float]:
        model = VectorNet()
        torch.manual_seed(seed)
        program = transportify(model, torch.zeros(2, 6), modules=2, verify=verify)
        head = program.parts[0].auxiliary_head
        assert head is not None
        weights = torch.cat([p.detach().flatten() for p in head.parameters()])
        return weights, torch.rand(1).item()

    (verified, after), (unverified, same), (other, differs) = (
        drawn(1, True),
        drawn(1, False),
        drawn(2, True),
    )
    assert torch.equal(verified, unverified)
    assert after == same
    assert not torch.equal(verified, other)
    assert after != differs


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_gradients_are_verified_whatever_the_caller_has_switched_off(off: Any) -> None:
    model = VectorNet()
    with off():
        with preserve_process(model):
            assert torch.is_grad_enabled()
            assert not torch.is_inference_mode_enabled()
        assert not torch.is_grad_enabled()
        transportify(model, torch.zeros(2, 6))
        assert not torch.is_grad_enabled()


def test_seeds_reach_the_generators_of_the_model_alone() -> None:
    model = VectorNet()
    assert devices_of(model) == (torch.device("cpu"),)
    assert device_of(nn.ReLU()) == torch.device("cpu")
    queued = len(torch.cuda._queued_calls)
    with preserve_process(model):
        seed_generators(3, devices_of(model))
        first = random.random(), np.random.rand(), torch.rand(1).item()
        seed_generators(3, devices_of(model))
        assert (random.random(), np.random.rand(), torch.rand(1).item()) == first
    assert len(torch.cuda._queued_calls) == queued


@pytest.mark.cuda
def test_the_generators_of_accelerators() -> None:
    model = VectorNet().cuda()
    device = devices_of(model)[0]
    torch.cuda.manual_seed(7)
    before = torch.cuda.get_rng_state()
    with preserve_process(model):
        seed_generators(3, (device,))
        first = torch.rand(4, device=device)
        torch.cuda.manual_seed(3)
        assert torch.equal(torch.rand(4, device=device), first)
    assert torch.equal(torch.cuda.get_rng_state(), before)
    transportify(model, torch.zeros(2, 6), modules=2, head="none")
    assert torch.equal(torch.cuda.get_rng_state(), before)


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_collected_later(enabled: bool) -> None:
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with pytest.raises(ValueError, match="told"), without_collections():
            assert not gc.isenabled()
            raise ValueError("as it was told")
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()
