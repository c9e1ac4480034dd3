"""The trace: opened only where a residual lives, under the names of a model that stays as it is."""

import copy
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, fx, nn

from fxtransport.errors import TraceError
from fxtransport.ir import Origins, Residuals
from fxtransport.models import build, resolve
from fxtransport.passes.record import Record
from fxtransport.passes.trace import Trace
from tests.compiling import assert_identical, compiled, forward, original, outcome, run_on
from tests.passes.tracing import BranchesOnMode, Dropping, Wrapped, assert_same, traced

IMAGE = (3, 224, 224)


def test_a_transformer_reads_as_blocks() -> None:
    model = build(resolve("timm:vit_tiny_patch16_224"), device="meta")
    graph = traced(model, *IMAGE)
    assert 130 <= len(graph.nodes) <= 145
    closed = [str(n.target) for n in graph.nodes if n.op == "call_module"]
    for i in range(12):
        for name in ("norm1", "attn", "norm2", "mlp"):
            assert closed.count(f"blocks.{i}.{name}") == 1
    assert not any(name.count(".") > 2 for name in closed)
    functions = {n.target.__name__ for n in graph.nodes if n.op == "call_function"}
    assert "softmax" not in functions
    assert "scaled_dot_product_attention" not in functions


def test_nodes_are_named_after_modules() -> None:
    model = build(resolve("timm:swin_tiny_patch4_window7_224"), device="meta")
    unit = run_on(model, IMAGE, Trace())
    owners = unit.fact(Origins).owners
    for node in unit.traced().nodes:
        owner = str(node.target) if node.op == "call_module" else owners.get(node.name, "")
        if node.op in ("call_module", "call_function", "call_method"):
            assert node.name.startswith(owner.replace(".", "_")), (node.name, owner)
    for residual in unit.fact(Residuals).found:
        assert residual.node.startswith(residual.path.replace(".", "_"))


def test_parameters_and_buffers_keep_their_names() -> None:
    class Tensors(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.randn(4))
            self.register_buffer("shift", torch.randn(4))
            self.register_buffer("loose", torch.randn(4), persistent=False)
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.linear(x * self.loose).relu() * self.scale + self.shift

    model = Wrapped(Tensors())
    read = {str(n.target) for n in traced(model, 4).nodes if n.op == "get_attr"}
    assert read == {"stage.0.scale", "stage.0.shift", "stage.0.loose"}
    assert_same(model, torch.randn(3, 4))


def test_closed_modules_can_be_opened_by_hand() -> None:
    model = build(resolve("timm:vit_tiny_patch16_224"), device="meta")
    graph = traced(model, *IMAGE, step=Trace(open=("blocks.3.mlp",)))
    closed = {str(n.target) for n in graph.nodes if n.op == "call_module"}
    assert {"blocks.3.mlp.fc1", "blocks.2.mlp"} <= closed
    assert "blocks.3.mlp" not in closed
    with pytest.raises(TraceError, match=r"cannot open 'blocks\.99'.*no such module"):
        traced(model, *IMAGE, step=Trace(open=("blocks.99",)))


class Reshaping(nn.Module):
    """Uses sizes as numbers, and makes tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))
        self.position = nn.Embedding(64, 8)

    def forward(self, x: Tensor) -> Tensor:
        batch, positions, channels = x.shape
        index = torch.arange(x.shape[1], device=x.device)
        x = x + self.position(index)
        halves = x.reshape(batch * 2, positions // 2, channels)
        halves = halves + self.mlp(halves)
        ones = torch.ones(len(x), 1, channels, dtype=x.dtype, device=x.device)
        return torch.cat([halves.reshape(batch, -1, channels), ones.expand(x.size(0), -1, -1)], 1)


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("positions", [6, 8])
def test_the_batch_and_other_sizes_are_dynamic(batch: int, positions: int) -> None:
    model = Reshaping()
    unit = compiled(model, 6, 8)
    x = torch.randn(batch, positions, 8)
    found = outcome(forward(unit), model, x, training=False)
    assert_identical(found, outcome(original, model, x, training=False))


def test_factories_are_nodes() -> None:
    graph = traced(Reshaping(), 6, 8)
    functions = [n.target for n in graph.nodes if n.op == "call_function"]
    assert torch.arange in functions
    assert torch.ones in functions


class Bias(nn.Module):
    """Keeps a tensor of its last forward, as levit and efficientformer keep attention biases."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))
        self.cache: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if str(x.device) not in self.cache:
            self.cache[str(x.device)] = self.weight * 2
        return x * self.cache[str(x.device)]


class Remembers(nn.Module):
    """Counts its calls, and has a module with a cache."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.bias = nn.Linear(8, 8), Bias()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x + self.bias(self.linear(x)).relu()


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Everything that a trace could change in a model."""
    found: dict[str, Any] = {"state": {k: v.clone() for k, v in model.state_dict().items()}}
    for path, module in model.named_modules():
        values = {name: copy.copy(value) for name, value in vars(module).items()}
        found[path] = (type(module), module.training, values)
    return found


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_untouched(training: bool) -> None:
    model = nn.Sequential(Remembers(), nn.BatchNorm1d(8), Dropping(), BranchesOnMode(1, 2))
    model.train(training)
    model[2].train(not training)
    model[1].register_forward_hook(lambda *call: call[-1] * 2)
    before = snapshot(model)
    compiled(model, 8)
    after = snapshot(model)
    assert_identical(after.pop("state"), before.pop("state"))
    assert after == before


@pytest.mark.parametrize("name", ["levit_128s", "efficientformerv2_s0"])
def test_caches_do_not_leak(name: str) -> None:
    model = timm.create_model(name).eval()
    caches = [m.attention_bias_cache for m in model.modules() if hasattr(m, "attention_bias_cache")]
    assert caches
    compiled(model, *IMAGE)
    assert not any(caches)


def test_torch_is_as_before() -> None:
    before = (nn.Module.__call__, torch.arange, torch.ones, fx.Proxy.__iter__)
    traced(Reshaping(), 6, 8)
    assert (nn.Module.__call__, torch.arange, torch.ones, fx.Proxy.__iter__) == before


def test_the_place_of_an_error_is_in_the_models_library() -> None:
    """torchvision lies beside torch, and is not taken for it."""
    model = build(resolve("torchvision:fasterrcnn_resnet50_fpn"), device="meta")
    with pytest.raises(TraceError, match=r"torchvision[^ ]*\.py:\d+"):
        run_on(model, (3, 64, 64), Record())


def test_checkpointed_blocks_are_opened() -> None:
    """What recomputes its activations computes the same numbers, and has residuals."""
    model = timm.create_model("vit_tiny_patch16_224", img_size=32)
    model.set_grad_checkpointing(True)
    unit = compiled(model, 3, 32, 32)
    assert len(unit.fact(Residuals).tapped) == 24
    images = torch.randn(2, 3, 32, 32)
    for training in (True, False):
        expected = outcome(original, model, images, training=training)
        assert_identical(outcome(forward(unit), model, images, training=training), expected)


def test_transformer_layers_of_torch_are_opened() -> None:
    """Their fused path for inference hides the additions; their plain one does not."""
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    fused = torch.backends.mha.get_fastpath_enabled()
    unit = compiled(model, 5, 16)
    assert torch.backends.mha.get_fastpath_enabled() == fused
    assert [r.path for r in unit.fact(Residuals).tapped] == ["layers.0"] * 2 + ["layers.1"] * 2
    tokens = torch.randn(2, 5, 16)
    expected = outcome(original, model, tokens, training=True)
    assert_identical(outcome(forward(unit), model, tokens, training=True), expected)
