"""The trace: opened only where a residual lives, right in both modes, or refused with a place."""

import copy
import inspect
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fxtransport.errors import GuardError, TraceError
from fxtransport.ir import Residuals
from fxtransport.models import build, resolve
from fxtransport.passes.guards import guard
from fxtransport.passes.record import Record
from fxtransport.passes.residuals import FindResiduals
from fxtransport.passes.trace import Origins, Trace
from tests.compiling import assert_identical, compiled, forward, original, outcome, run_on

IMAGE = (3, 224, 224)


def traced(model: nn.Module, *shape: int, step: Trace | None = None) -> fx.Graph:
    return run_on(model, shape, step or Trace()).traced()


def assert_same(model: nn.Module, *inputs: Tensor, training: bool = False) -> None:
    """The lowered forward of a model, compiled for a batch of two, computes its numbers."""
    unit = compiled(model, *inputs[0].shape[1:])
    found = outcome(forward(unit), model, *inputs, training=training)
    assert_identical(found, outcome(original, model, *inputs, training=training))


def line_of(cls: type, text: str) -> str:
    """File and line of some source text of a class."""
    lines, first = inspect.getsourcelines(cls)
    return f"{__file__}:{first + next(i for i, line in enumerate(lines) if text in line)}"


class Wrapped(nn.Module):
    """A block in a model, so that it has a path."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.stage = nn.Sequential(block)

    def forward(self, x: Tensor) -> Tensor:
        return self.stage(x)


# What is opened


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
    unit = run_on(model, IMAGE, FindResiduals())
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


# One graph for every batch, and for both modes


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


class Dropping(nn.Module):
    """A residual block that drops its branch by a function."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.dropout(self.linear(x).relu(), 0.5, self.training)


@pytest.mark.parametrize("evaluated", [(), ("0",), ("1",), ("0", "1"), ("",)])
def test_dropout_follows_the_flag_of_its_owner(evaluated: tuple[str, ...]) -> None:
    model = nn.Sequential(Dropping(), Dropping())
    unit = compiled(model, 8)
    for path in evaluated:
        model.get_submodule(path).eval()
    x = torch.randn(4, 8)
    torch.manual_seed(1)
    expected = model(x)
    torch.manual_seed(1)
    assert_identical(forward(unit)(model, x), expected)


class BranchesOnMode(nn.Module):
    """Decides by its training flag."""

    def __init__(self, in_train: float, in_eval: float) -> None:
        super().__init__()
        self.in_train, self.in_eval = in_train, in_eval
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        rate = self.in_train if self.training else self.in_eval
        return x + self.linear(x).relu() * rate


@pytest.mark.parametrize("training", [True, False])
def test_constants_that_differ_between_modes_are_chosen_at_run_time(training: bool) -> None:
    model = Wrapped(BranchesOnMode(0.25, 4.0))
    assert_same(model, torch.randn(3, 8), training=training)
    # and a submodule keeps a mode of its own
    unit = compiled(model, 8)
    model.train(training).stage.train(not training)
    x = torch.randn(3, 8)
    assert_identical(forward(unit)(model, x), model(x))


class MoreInTraining(BranchesOnMode):
    """Has a further classifier, a further function, and another kind of output in training."""

    def __init__(self) -> None:
        super().__init__(0, 0)
        self.auxiliary = nn.Sequential(nn.Linear(8, 3), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Any:
        x = x + self.linear(x).relu()
        if self.training:
            return x, self.auxiliary(x).tanh().mul(2.0)
        return x


@pytest.mark.parametrize("training", [True, False])
def test_what_runs_in_training_only_is_conditional(training: bool) -> None:
    model = nn.Sequential(MoreInTraining())
    assert_same(model, torch.randn(3, 8), training=training)
    unit = compiled(model, 8)
    assert (len(forward(unit)(model.train(training), torch.randn(3, 8))) == 2) == training


class MoreInEval(BranchesOnMode):
    def forward(self, x: Tensor) -> Tensor:
        x = x + self.linear(x).relu()
        return x if self.training else x.tanh()


def test_what_runs_in_eval_only_is_refused() -> None:
    with pytest.raises(TraceError) as caught:
        traced(Wrapped(MoreInEval(0, 0)), 8)
    assert "the forward of stage.0" in str(caught.value)
    assert "runs operations in eval mode" in str(caught.value)
    assert "move them into a submodule" in str(caught.value)


class Moody(nn.Module):
    """Decides by shape and mode."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] % 2:
            x = x.flip(0)
        return x * 2 if self.training else x.tanh()


class AroundMoody(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.moody = nn.Linear(8, 8), Moody()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.moody(self.linear(x))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch", [2, 3])
def test_a_closed_module_keeps_its_control_flow(training: bool, batch: int) -> None:
    assert_same(AroundMoody(), torch.randn(batch, 8), training=training)


# Control flow


class DecidesOnData(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            x = -x
        return x + self.linear(x)


class TakesItem(DecidesOnData):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.linear(x) * x.mean().item()


class TakesFloat(DecidesOnData):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.linear(x) * float(x.mean())


class TakesWhere(DecidesOnData):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.linear(x)[:, (x.sum(0) > 0).nonzero().flatten()].sum()


@pytest.mark.parametrize(
    ("cls", "text"),
    [
        (DecidesOnData, "if x.sum() > 0"),
        (TakesItem, ".item()"),
        (TakesFloat, "float("),
        (TakesWhere, "nonzero()"),
    ],
)
def test_decisions_on_data_are_refused_with_the_place(cls: type[nn.Module], text: str) -> None:
    with pytest.raises(TraceError) as caught:
        traced(Wrapped(cls()), 8)
    message = str(caught.value)
    assert f"stage.0 ({cls.__name__})" in message
    assert line_of(cls, text) in message
    assert "data-dependent control flow" in message
    assert "torch.where" in message  # the way out
    assert caught.value.exit_code == 3


class DecidesOnShape(nn.Module):
    """Pads to an even size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] % 2:
            x = F.pad(x, (0, 1))
        return x + self.conv(x).relu()


def test_decisions_on_shapes_are_guarded() -> None:
    model = Wrapped(DecidesOnShape())
    unit = compiled(model, 4, 8, 8)
    assert sum(n.target is guard for n in unit.traced().nodes) == 1
    assert_same(model, torch.randn(3, 4, 8, 8))
    for size in (8, 10):  # both even
        x = torch.randn(1, 4, size, size)
        assert_identical(forward(unit)(model, x), model(x))
    with pytest.raises(GuardError, match=r"a number in stage\.0 .* makes it .*compile again"):
        forward(unit)(model, torch.randn(1, 4, 9, 9))


class Raises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("no such luck\nand more")


def test_a_forward_that_raises_is_named_with_the_place() -> None:
    with pytest.raises(TraceError) as caught:
        traced(Wrapped(Raises()), 8)
    message = str(caught.value)
    assert "stage.0 (Raises) raised ValueError" in message
    assert line_of(Raises, "raise ValueError") in message
    assert ": no such luck. " in message
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_input_that_does_not_fit_is_named_with_the_place() -> None:
    model = build(resolve("timm:vit_tiny_patch16_224"), device="meta")
    with pytest.raises(TraceError, match=r"patch_embed \(PatchEmbed\) raised AssertionError at"):
        traced(model, 3, 100, 100)


# The user's model


class Remembers(nn.Module):
    """Keeps a tensor of its last forward, as levit and efficientformer keep attention biases."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.cache: dict[str, Tensor] = {}
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if str(x.device) not in self.cache:
            self.cache[str(x.device)] = self.linear.weight[0] * 2
        return x + self.linear(x).relu()


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
