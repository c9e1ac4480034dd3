"""The code that Inductor generates for a CUDA device. It is not run."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import pytest
import timm
import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.registry import register_backend
from torch._inductor import compile_fx
from torch._inductor.graph import GraphLowering
from torch.utils._python_dispatch import _disable_current_modes

from fxtransport import Program, transportify
from fxtransport.fakes import without_data
from fxtransport.nets import resnet_m
from fxtransport.objectives import Objective, lap, plain, trgl
from fxtransport.training import OptimizerSettings, TrainerSettings
from fxtransport.training.devices import move_to
from fxtransport.training.learner import Learner
from fxtransport.training.steps import sweep

pytestmark = pytest.mark.cuda
CUDA = torch.device("cuda")
BACKEND = "inductor_code_only"


@dataclass
class Generated:
    """What Inductor has generated."""

    codes: list[str] = field(default_factory=list)
    reasons: list[str | None] = field(default_factory=list)
    """Why a graph cannot be a CUDA graph."""

    def take(self, graph: GraphLowering) -> Any:
        """In the place of compiling the code and loading it."""
        wrapper, _ = graph.codegen()
        self.codes.append(getattr(wrapper, "value", wrapper))
        self.reasons.append(graph.disable_cudagraphs_reason)
        raise NotImplementedError

    def compile(self, graph: torch.fx.GraphModule, inputs: Any, **kwargs: Any) -> Any:
        """Generate code for a graph, and run the graph itself."""
        itself = torch.fx.GraphModule(graph, copy.deepcopy(graph.graph))
        before = len(self.codes)
        with pytest.raises(Exception, match="NotImplementedError"):
            compile_fx.compile_fx_inner(graph, inputs, **kwargs)
        assert len(self.codes) == before + 1
        return make_boxed_func(itself.forward)


@contextmanager
def generating() -> Iterator[Generated]:
    """While active, the backend of that name generates code that it does not run."""
    found = Generated()
    _active.append(found)
    torch._dynamo.reset()
    options = {
        "triton.cudagraphs": True,
        "fx_graph_cache": False,
        "compile_threads": 1,
        # these run kernels to find the better one
        "joint_graph_constant_folding": False,
        "shape_padding": False,
    }

    def take(graph: GraphLowering) -> Any:
        return found.take(graph)

    taken = mock.patch.object(GraphLowering, "_compile_to_module", take)
    with taken, torch._inductor.config.patch(options), _disable_current_modes():
        yield found
    _active.remove(found)


_active: list[Generated] = []


@register_backend(name=BACKEND)
def generate_code(graph: torch.fx.GraphModule, inputs: Any, **options: Any) -> Any:
    """A backend of ``torch.compile``."""
    return compile_fx.compile_fx(graph, inputs, inner_compile=_active[-1].compile)


def generate(
    program: Program, objective: Objective, shape: tuple[int, int, int], **settings: Any
) -> Generated:
    """The code of a step of each part."""
    channels_last = settings.get("channels_last", False)
    with generating() as found, without_data(CUDA) as fakes:
        fake = fakes.copy(program, channels_last=channels_last).train()
        goal = fakes.copy(objective).train()
        how = TrainerSettings(compile=BACKEND, **settings)
        learners = [Learner(part, 1, OptimizerSettings(), how, CUDA) for part in fake.parts]
        images = move_to(torch.empty(8, *shape, device=CUDA), CUDA, channels_last)
        targets = torch.zeros(8, dtype=torch.int64, device=CUDA)
        for _ in range(2):
            sweep(learners, goal, [images], [targets], how.amp)
        assert [learner.graphs for learner in learners] == [1] * len(fake.parts)
    return found


OBJECTIVES = {"plain": plain(), "lap": lap(1.0, 0.1, 1), "trgl": trgl((0.5, 1.0))}


@pytest.fixture(scope="module")
def resnet() -> Program:
    model = resnet_m(blocks=2, channels=8, image_size=8)
    return transportify(model, torch.zeros(2, 1, 8, 8), modules=2, verify=False)


@pytest.fixture(scope="module")
def vit() -> Program:
    model = timm.create_model("vit_tiny_patch16_224", num_classes=10, img_size=32, depth=2)
    return transportify(model, torch.zeros(2, 3, 32, 32), modules=2, verify=False)


def assert_generated(found: Generated) -> None:
    """Triton kernels for forward and backward, which can be CUDA graphs."""
    assert len(found.codes) == 4
    for code in found.codes:
        assert "@triton.jit" in code
        assert "cpp_fused" not in code
    assert found.reasons == [None] * 4


@pytest.mark.parametrize(("name", "amp"), [("plain", None), ("lap", "bf16"), ("trgl", None)])
def test_each_part_is_one_graph(resnet: Program, name: str, amp: str | None) -> None:
    assert_generated(generate(resnet, OBJECTIVES[name], (1, 8, 8), amp=amp))


def test_parts_with_attention(vit: Program) -> None:
    found = generate(vit, OBJECTIVES["lap"], (3, 32, 32), amp="bf16")
    assert_generated(found)
    assert all("_scaled_dot_product_" in code for code in found.codes)


@pytest.mark.parametrize("option", ["channels_last", "checkpoint_activations"])
def test_options_are_in_the_graph(resnet: Program, option: str) -> None:
    assert_generated(generate(resnet, OBJECTIVES["trgl"], (1, 8, 8), **{option: True}))
