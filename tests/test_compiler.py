"""From a model to a program: the example, the passes, and what a program knows."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxtransport.compiler import compile_passes, compile_program, transportify
from fxtransport.errors import FxTransportError, TraceError
from fxtransport.example_inputs import example_of
from fxtransport.ir import Kind, Layout
from fxtransport.passes.pipeline import PassRun
from fxtransport.residue import Residue
from fxtransport.targets import compile_named
from tests.networks import Net, VectorNet


def test_passes_are_observed_and_known_to_the_program() -> None:
    seen: list[PassRun] = []
    model = Net().double()
    passes = compile_passes(modules=2, verify=False)
    program = compile_program(model, example_of(model), passes, observe=seen.append)
    names = [run.name for run in seen]
    assert [text.partition("{")[0] for text in program.facts.pipeline.split(",")] == names
    assert names[-1] == "lower"
    assert program.facts.verification is None
    head = program.parts[0].auxiliary_head
    assert head is not None
    assert {p.dtype for p in head.parameters()} == {torch.float64}


class Mixed(nn.Module):
    """A stem of one dtype, and blocks and a classifier of another."""

    def __init__(self, stem: torch.dtype, rest: torch.dtype) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 6).to(stem)
        self.blocks = VectorNet().to(rest)
        self.stem_dtype, self.dtype = stem, rest

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.blocks(self.stem(x.to(self.stem_dtype)).to(self.dtype))
        return logits


@pytest.mark.parametrize(
    ("stem", "rest"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float64, torch.float32),
        (torch.float32, torch.bfloat16),
        (torch.float32, torch.float64),
    ],
)
def test_heads_have_the_dtype_of_what_they_read(stem: torch.dtype, rest: torch.dtype) -> None:
    program = transportify(Mixed(stem, rest), torch.zeros(2, 6), modules=3)
    x = torch.randn(4, 6)
    hidden: Any = x
    for part in program.parts:
        output = part(hidden)
        output.logits.sum().backward(retain_graph=True)
        assert output.logits.dtype == rest
        hidden = output.hidden
    assert torch.equal(hidden, program(x))


def test_an_integer_parameter_says_nothing_of_the_heads() -> None:
    class Quantized(VectorNet):
        def __init__(self) -> None:
            super().__init__()
            table = torch.randint(-5, 5, (6, 6), dtype=torch.int8)
            self.table = nn.Parameter(table, requires_grad=False)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = super().forward(x @ self.table.float())
            return logits

    model = Quantized()
    assert next(model.parameters()).dtype == torch.int8
    program = transportify(model, torch.zeros(2, 6), modules=2)
    assert program.parts[0](torch.randn(3, 6)).logits.dtype == torch.float32


def test_a_buffer_may_be_an_nn_parameter() -> None:
    class Scaled(VectorNet):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", nn.Parameter(torch.randn(6)))

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = super().forward(x * self.get_buffer("scale"))
            return logits

    model = Scaled()
    program = transportify(model, torch.zeros(2, 6), modules=2)
    x = torch.randn(3, 6)
    assert torch.equal(program(x), model(x))
    assert program.model_state_dict().keys() == model.state_dict().keys()


class OnlyOne(nn.Module):
    """Takes one batch size, or computes something else for it."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first, self.second, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "raises" and x.shape[0] != 1:
            raise ValueError("one sample at a time")
        if self.how == "assumes":
            x = x.reshape(1, 6)
        if self.how == "decides" and x.shape[0] == 1:
            x = x * 2
        x = x + self.first(x).relu()
        logits: Tensor = self.head(x + self.second(x).relu())
        return logits


@pytest.mark.parametrize("how", ["raises", "assumes", "decides"])
@pytest.mark.parametrize("verify", [True, False])
def test_a_batch_of_one_where_the_model_takes_no_other(how: str, verify: bool) -> None:
    model = OnlyOne(how).eval()
    program = transportify(model, torch.zeros(1, 6), modules=2, verify=verify)
    assert program.facts.example.batch_size == 1
    x = torch.randn(1, 6)
    assert torch.equal(program(x), model(x))
    with pytest.raises((FxTransportError, ValueError, RuntimeError)):
        program(torch.randn(3, 6))


def test_a_batch_of_one_is_compiled_for_more_where_it_can_be() -> None:
    model = VectorNet().eval()
    program = transportify(model, torch.zeros(1, 6), modules=2)
    assert program.facts.example.batch_size == 2
    for size in (1, 2, 3):
        x = torch.randn(size, 6)
        assert torch.equal(program(x), model(x))


def test_a_refusal_for_a_batch_of_one_is_that_of_the_larger() -> None:
    class Wrong(VectorNet):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError(f"not {x.shape[0]}")

    with pytest.raises(TraceError, match="not 2"):
        transportify(Wrong(), torch.zeros(1, 6))


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("torchvision:resnet18", Layout.CHANNELS_FIRST),
        pytest.param("torchvision:vgg11", Layout.CHANNELS_FIRST, marks=pytest.mark.slow),
        pytest.param("timm:vit_tiny_patch16_224", Layout.CHANNELS_LAST, marks=pytest.mark.slow),
        pytest.param(
            "timm:swin_tiny_patch4_window7_224", Layout.CHANNELS_LAST, marks=pytest.mark.slow
        ),
    ],
)
def test_blocks_are_those_that_are_measured_in_their_order(name: str, layout: Layout) -> None:
    program = compile_named(name, input_size=64, verify=False)
    measured: list[tuple[Kind, tuple[int, ...]]] = []

    def measure(residue: Residue) -> None:
        measured.append((residue.kind, tuple(residue.branch.shape[1:])))

    program(torch.randn(2, 3, 64, 64), measure=measure)
    blocks = program.facts.blocks
    assert [(block.kind, block.shape) for block in blocks] == measured
    assert {block.layout for block in blocks} == {layout}
    for block in blocks:
        channels = {Layout.CHANNELS_FIRST: 1, Layout.CHANNELS_LAST: len(block.shape)}[layout]
        assert block.channels == channels
    fewer = compile_named(name, input_size=64, verify=False, kinds=["projection"]).facts.blocks
    additions = [block for block in blocks if block.kind is Kind.PROJECTION]
    assert list(fewer) == (additions if program.facts.residuals else list(blocks))
