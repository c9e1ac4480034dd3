"""What other tools get wrong on models of the zoo, and this compiler must not."""

import timm
import torch
import torchvision
from torch import Tensor, fx, nn

from fxtransport.passes.pipeline import run_passes
from fxtransport.passes.trace import Origins, Trace
from tests.compiling import assert_identical, compiled, forward, unit_of

LAYER = "encoder.layers.encoder_layer_0"


def test_a_norm_is_not_taken_for_the_next_one() -> None:
    """torchvision's extractor strips suffixes of names and returns ln_2 for ln_1."""
    model = torchvision.models.vit_b_32(weights=None).eval()
    unit = run_passes(unit_of(model, 3, 224, 224), [Trace(open=(LAYER,))])
    graph = unit.traced()
    norms = {name: f"{LAYER}.{name}" for name in ("ln_1", "ln_2")}
    nodes = {n.name: n for n in graph.nodes if n.target in norms.values()}
    assert {str(n.target) for n in nodes.values()} == set(norms.values())
    assert all(name == str(n.target).replace(".", "_") for name, n in nodes.items())
    assert unit.fact(Origins).opened >= {LAYER}

    expected: dict[str, Tensor] = {}
    for name, path in norms.items():

        def keep(module: nn.Module, inputs: object, output: Tensor, name: str = name) -> None:
            expected[name] = output.clone()

        model.get_submodule(path).register_forward_hook(keep)
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        model(x)
        values = Values(model, graph)
        values.run(x)
    for name, path in norms.items():
        assert_identical(values.of[path.replace(".", "_")], expected[name])
    assert not torch.equal(expected["ln_1"], expected["ln_2"])


class Values(fx.Interpreter):
    """Runs a graph and keeps the tensor that each module returns."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        super().__init__(model, graph=graph)
        self.of: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> object:
        value = super().run_node(n)
        if n.op == "call_module" and isinstance(value, Tensor):
            self.of[n.name] = value.clone()
        return value


def test_a_program_traced_in_training_is_deterministic_in_eval() -> None:
    """A trace in train mode with plain fx keeps drop-path alive in eval mode."""
    model = timm.create_model("swin_tiny_patch4_window7_224", drop_path_rate=0.5, num_classes=4)
    model.train()
    program = forward(compiled(model, 3, 224, 224))
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert not torch.equal(program(model, x), program(model, x))
        model.eval()
        assert_identical(program(model, x), program(model, x))
        assert_identical(program(model, x), model(x))
