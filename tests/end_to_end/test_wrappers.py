"""Programs and parts in what torch wraps modules in: compiled, exported, traced, distributed."""

import io
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from fxtransport import PartOutput, Program, transportify
from tests.compiling import hidden_before
from tests.networks import OverwritingNet

SMALL: dict[str, dict[str, Any]] = {
    "resnet18": {},
    "vit_tiny_patch16_224": {"img_size": 32, "depth": 2},
    "swin_tiny_patch4_window7_224": {"img_size": 28, "depths": (2, 2), "window_size": 7},
    "convnext_tiny": {"depths": (1, 1, 1, 1)},
}
"""Models of four families, with few layers."""

BATCH = torch.export.Dim("batch")

quiet = pytest.mark.filterwarnings(
    # of torch's own parts among each other
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::UserWarning",
    # of decisions on shapes that code of timm makes
    "ignore::torch.jit.TracerWarning",
)


@cache
def program_of(name: str) -> tuple[nn.Module, Program, torch.Tensor]:
    """A model in eval mode, its program in two parts, and a batch of two."""
    torch.manual_seed(0)
    size = 8
    if name == "small":
        model: nn.Module = OverwritingNet()
    else:
        model = timm.create_model(name, num_classes=5, **SMALL[name])
        size = SMALL[name].get("img_size", 32)
    images = torch.randn(2, 3, size, size)
    program = transportify(model.eval(), images, modules=2, verify=name == "small")
    return model, program.eval(), images


names = pytest.mark.parametrize(
    "name", ["small", *(pytest.param(name, marks=pytest.mark.slow) for name in SMALL)]
)
kinds = pytest.mark.parametrize("kind", ["program", "part"])


def subject(name: str, kind: str) -> tuple[nn.Module, torch.Tensor, Callable[[Any], torch.Tensor]]:
    """A program, or its second part; what it is given; and how what it returns is read."""
    _, program, images = program_of(name)
    if kind == "program":
        return program, images, lambda returned: returned
    return program.parts[1], hidden_before(program, 1, images), lambda returned: returned[0]


def longer(given: torch.Tensor) -> torch.Tensor:
    """A batch of three."""
    return torch.cat([given, given[:1]])


def dynamic(kind: str) -> Any:
    """The batch is of any size. A program takes ``*inputs``, a part ``hidden``."""
    return (({0: BATCH},),) if kind == "program" else ({0: BATCH},)


@names
@kinds
def test_functional_call(name: str, kind: str) -> None:
    """With other parameters, of which nothing stays."""
    module, given, read = subject(name, kind)
    doubled = {key: 2 * value for key, value in module.named_parameters()}
    before = read(module(given))
    found = read(torch.func.functional_call(module, doubled, (given,)))
    assert not torch.equal(found, before)
    assert torch.equal(read(module(given)), before)
    if kind == "program":
        model = program_of(name)[0]
        own = {key: doubled[key] for key, _ in model.named_parameters()}
        assert torch.equal(found, torch.func.functional_call(model, own, (given,)))


@names
@kinds
def test_compile(name: str, kind: str) -> None:
    module, given, read = subject(name, kind)
    torch.compiler.reset()
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    assert torch.equal(read(compiled(given)), read(module(given)))


@quiet
@kinds
@pytest.mark.parametrize(
    ("name", "strict"),
    [
        *(("small", strict) for strict in (False, True)),
        *(pytest.param(name, False, marks=pytest.mark.slow) for name in SMALL),
        pytest.param("vit_tiny_patch16_224", True, marks=pytest.mark.slow),
    ],
)
def test_export(name: str, kind: str, strict: bool) -> None:
    """Saved and loaded, and run on a batch of another size."""
    module, given, read = subject(name, kind)
    torch.compiler.reset()
    exported = torch.export.export(module, (given,), strict=strict, dynamic_shapes=dynamic(kind))
    file = io.BytesIO()
    torch.export.save(exported, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    assert type(loaded(given)) is (torch.Tensor if kind == "program" else PartOutput)
    assert torch.equal(read(loaded(given)), read(module(given)))
    torch.testing.assert_close(read(loaded(longer(given))), read(module(longer(given))))


@quiet
@pytest.mark.slow
@names
@kinds
def test_onnx(name: str, kind: str, tmp_path: Path) -> None:
    """Run by another runtime, which rounds elsewhere, on a batch of another size."""
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    module, given, read = subject(name, kind)
    file = tmp_path / "model.onnx"
    torch.onnx.export(
        module, (given,), file, dynamo=True, dynamic_shapes=dynamic(kind), verbose=False
    )
    session = onnxruntime.InferenceSession(file)
    (entry,) = session.get_inputs()
    found = session.run(None, {entry.name: longer(given).numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(found), read(module(longer(given))))


@quiet
@names
@kinds
def test_jit_trace(name: str, kind: str) -> None:
    """Saved and loaded; torch checks the trace by a second one."""
    module, given, read = subject(name, kind)
    traced = torch.jit.trace(module, (given,))
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    loaded = torch.jit.load(file)
    assert torch.equal(
        loaded(given) if kind == "program" else loaded(given)[0], read(module(given))
    )


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A group of one process."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@quiet
@names
@kinds
@pytest.mark.usefixtures("alone")
def test_ddp(name: str, kind: str) -> None:
    """The auxiliary heads of a program are left alone; in a part, each parameter is used."""
    module, given, read = subject(name, kind)
    wrapped = DistributedDataParallel(module, find_unused_parameters=kind == "program")
    returned = read(wrapped(given))
    assert torch.equal(returned, read(module(given)))
    returned.sum().backward()
    used = {key for key, value in module.named_parameters() if value.grad is not None}
    heads = {key for key, _ in module.named_parameters() if key.startswith("auxiliary_heads.")}
    assert used == {key for key, _ in module.named_parameters()} - heads
    module.zero_grad()


@kinds
def test_average(kind: str) -> None:
    """An averaged copy shares nothing, and follows."""
    module, given, read = subject("small", kind)
    average = AveragedModel(module)
    average.update_parameters(module)
    assert torch.equal(read(average(given)), read(module(given)))
    before = read(average(given))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.5)
    assert torch.equal(read(average(given)), before)
    average.update_parameters(module)
    assert not torch.equal(read(average(given)), before)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.div_(1.5)


@quiet
@pytest.mark.parametrize("measure", [None, lambda residue: residue.branch.mean((1, 2, 3))])
def test_a_measure_is_exported(measure: Any) -> None:
    """It is part of the graph, and not an input: a function that calls the part gives it."""
    part, given, _ = subject("small", "part")

    class Costs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = part

        def forward(self, x: torch.Tensor) -> Any:
            return self.part(x, measure=measure)

    expected = part(given, measure=measure)
    for strict in (False, True):
        torch.compiler.reset()
        exported = torch.export.export(Costs(), (given,), strict=strict)
        torch.testing.assert_close(tuple(exported.module()(given)), tuple(expected))
    traced = torch.jit.trace(Costs(), (given,))
    torch.testing.assert_close(tuple(traced(given)), tuple(expected))


def test_programs_of_other_types(images: torch.Tensor) -> None:
    """Cast after compiling: the program, its parts chained, and the model agree."""
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        model = OverwritingNet().eval()
        program = transportify(model, images, modules=3).eval().to(dtype)
        hidden: Any = images.to(dtype)
        for part in program.parts:
            out = part(hidden)
            assert out.logits.dtype == dtype
            hidden = out.hidden
        assert torch.equal(hidden, program(images.to(dtype)))
        assert torch.equal(hidden, model(images.to(dtype)))
