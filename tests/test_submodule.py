"""Submodules compile for what the whole gives them; backbones stand in for detectors."""

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from fxtransport.compiler import transportify
from fxtransport.errors import ModelNameError, TraceError, UsageError
from fxtransport.example import Example
from fxtransport.models import build, resolve
from fxtransport.submodule import Target, open_submodule, whole_or_backbone
from tests.compiling import assert_identical


class Features(nn.Module):
    """Returns two maps by name, as backbones with a feature pyramid do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = x + self.first(x).relu()
        return OrderedDict(fine=x, coarse=(x + self.second(x).relu())[..., ::2, ::2])


class Detector(nn.Module):
    """Gives its backbone an image of twice the size, and keeps what scores well."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.unused = Features(), nn.Identity()
        self.score = nn.Sequential(nn.Flatten(0), nn.Sigmoid())
        self.listen = Listens()

    def forward(self, x: Tensor) -> Tensor:
        found = self.backbone(nn.functional.interpolate(x, scale_factor=2))
        scores: Tensor = self.score(self.listen({found["fine"]}))
        return scores[scores > 0.5]


class Listens(nn.Module):
    """Is given a set."""

    def forward(self, x: set[Tensor]) -> Tensor:
        return next(iter(x))


def inputs(size: int = 4) -> Example:
    return Example((torch.empty(2, 3, size, size, device="meta"),))


def test_a_part_is_compiled_for_what_the_whole_gives_it() -> None:
    model = Detector()
    part = open_submodule(
        nn.Sequential(nn.Conv2d(1, 3, 2), model), Example((torch.empty(2, 1, 9, 9),)), "1.backbone"
    )
    assert part.model is model.backbone
    assert [x.shape for x in part.example.inputs] == [(2, 3, 16, 16)]
    assert all(x.is_meta for x in part.example.inputs)
    sized = open_submodule(model, None, "score.0", size=(3, 2))
    assert [x.shape for x in sized.example.inputs] == [(2, 3, 2)]


def test_an_image_is_not_resized_if_it_fits() -> None:
    model = Detector()
    part = open_submodule(model, inputs(4), "backbone")
    assert [x.shape for x in part.example.inputs] == [(2, 3, 4, 4)]
    model.backbone.first = nn.Conv2d(3, 3, 9, padding=4, padding_mode="reflect")  # too wide
    part = open_submodule(model, inputs(4), "backbone")
    assert [x.shape for x in part.example.inputs] == [(2, 3, 8, 8)]


def test_a_backbone_returns_what_it_did() -> None:
    part = open_submodule(Detector(), inputs(), "backbone")
    program = transportify(part.model, part.example.inputs, modules=2, head="none")
    x = torch.randn(3, 3, 8, 8)
    found, expected = program(x), part.model(x)
    assert type(found) is OrderedDict
    assert list(found) == ["fine", "coarse"]
    assert_identical(found, expected)
    assert len(program.transport(x).energies) == 2


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("unused", "raises NotImplementedError before it"),
        ("backbone.unused", "the forward pass does not reach it"),
        ("listen", "gives it set, and a program takes tensors; choose another submodule"),
    ],
)
def test_a_part_that_cannot_be(path: str, text: str) -> None:
    model: nn.Module = Detector()
    if path == "backbone.unused":
        model = nn.Sequential(OrderedDict(backbone=Features()))
        model.get_submodule("backbone").unused = nn.Identity()
    with pytest.raises(UsageError, match=f"cannot compile {path} of .*{text}.*give input_size"):
        open_submodule(model, inputs(), path)


def test_a_path_that_is_not_there() -> None:
    with pytest.raises(ModelNameError, match="no submodule 'backbon': did you mean backbone"):
        open_submodule(Detector(), inputs(), "backbon")


def compile_it(part: Target) -> tuple[str, TraceError | None]:
    transportify(part.model, part.example.inputs, verify=False)
    return part.path, part.refusal


def test_the_whole_if_it_can_be_and_else_the_backbone() -> None:
    model = Detector()
    assert whole_or_backbone(Target(model.backbone, inputs()), compile_it) == ("", None)
    path, refusal = whole_or_backbone(Target(model, inputs()), compile_it)
    assert path == "backbone"
    assert "has data-dependent control flow" in str(refusal)


def test_the_whole_is_blamed_if_neither_can_be() -> None:
    class Worse(Detector):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x[x.sum((1, 2, 3)) > 0])

    for model in (Worse(), nn.Sequential(Worse())):
        with pytest.raises(TraceError, match=r"Worse\) has data-dependent"):
            whole_or_backbone(Target(model, inputs()), compile_it)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["retinanet_resnet50_fpn", "ssdlite320_mobilenet_v3_large"])
def test_detectors_of_torchvision(name: str) -> None:
    model = build(resolve(f"torchvision:{name}"))
    part = open_submodule(model, None, "backbone", (3, 64, 64))
    program = transportify(part.model, part.example.inputs, modules=2, head="none")
    assert program.facts.verification is not None
    assert program.facts.verification.max_error < 1e-6
    assert len(program.facts.residuals) > 9
