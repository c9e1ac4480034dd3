"""Programs take every batch size, and every resolution that the model itself takes."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from fxtransport import transportify
from fxtransport.errors import GuardError
from tests.compiling import assert_identical

SWIN: dict[str, Any] = {
    "depths": (2, 2),
    "embed_dim": 24,
    "num_heads": (1, 2),
    "window_size": 4,
    "img_size": 32,
    "strict_img_size": False,
}
VIT: dict[str, Any] = {"depth": 2, "img_size": 32}
TINY: dict[str, Any] = {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}
DYNAMIC: dict[str, tuple[str, dict[str, Any], list[tuple[int, int]]]] = {
    "resnet": ("resnet18", {}, [(32, 96), (33, 65)]),
    "convnext": ("convnext_tiny", TINY, [(64, 96), (33, 65)]),
    "efficientnet": ("efficientnet_b0", {}, [(64, 96), (33, 65)]),
    "swin": ("swin_tiny_patch4_window7_224", SWIN, [(64, 48), (40, 40)]),
    "swin v2": ("swinv2_tiny_window8_256", SWIN, [(64, 48), (40, 40)]),
    "vit": ("vit_tiny_patch16_224", {**VIT, "dynamic_img_size": True}, [(64, 48), (16, 16)]),
    "vit, padded": (
        "vit_tiny_patch16_224",
        {**VIT, "dynamic_img_size": True, "dynamic_img_pad": True},
        [(64, 48), (33, 20)],
    ),
    "xcit": ("xcit_nano_12_p16_224", {"depth": 2, "img_size": 32}, [(64, 48)]),
    "edgenext": ("edgenext_xx_small", {}, [(64, 96)]),
    "regnet": ("regnety_002", {}, [(64, 96), (33, 65)]),
}
"""A name, what its constructor is given, and heights and widths to call its program at."""


def built(name: str, options: dict[str, Any]) -> nn.Module:
    model: nn.Module = timm.create_model(name, num_classes=4, **options)
    return model.eval()


def compiled_at(model: nn.Module, height: int, width: int) -> nn.Module:
    """A program of a model whose example has this size."""
    return transportify(model, torch.empty(2, 3, height, width), verify=False)


@pytest.mark.parametrize("name", DYNAMIC)
def test_other_sizes_are_the_models(name: str) -> None:
    timm_name, options, sizes = DYNAMIC[name]
    model = built(timm_name, options)
    program = compiled_at(model, 32, 32)
    with torch.no_grad():
        for batch, (height, width) in enumerate([(32, 32), *sizes], start=1):
            images = torch.randn(batch, 3, height, width)
            assert_identical(program(images), model(images))


def test_a_size_that_is_not_the_native_one_can_be_the_example() -> None:
    model = built("vit_tiny_patch16_224", {**VIT, "dynamic_img_size": True})
    program = compiled_at(model, 48, 64)
    with torch.no_grad():
        for size in (32, 48):
            images = torch.randn(1, 3, size, size)
            assert_identical(program(images), model(images))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_tiny_patch16_224", VIT),
        ("swin_tiny_patch4_window7_224", {**SWIN, "strict_img_size": True}),
        ("cait_xxs24_224", VIT),
    ],
)
def test_a_fixed_size_is_refused_as_the_model_refuses_it(
    name: str, options: dict[str, Any]
) -> None:
    model = built(name, options)
    images = torch.randn(1, 3, 48, 48)
    for call in (model, compiled_at(model, 32, 32)):
        with pytest.raises(AssertionError, match=r"Input height \(48\) doesn't match model \(32\)"):
            call(images)


def test_control_flow_on_the_shape_is_guarded_with_the_place() -> None:
    """mobilevit resizes its maps, if they are not made of whole patches."""
    model = built("mobilevit_xxs", {})
    program = compiled_at(model, 64, 64)
    with torch.no_grad():
        images = torch.randn(1, 3, 128, 128)
        assert_identical(program(images), model(images))
        with pytest.raises(GuardError) as caught:
            program(torch.randn(1, 3, 96, 96))
        again = compiled_at(model, 96, 96)
        images = torch.randn(3, 3, 96, 96)
        assert_identical(again(images), model(images))
    message = str(caught.value)
    assert "stages.4.1 (MobileVitBlock) at timm/models/mobilevit.py:" in message
    assert "is False, and this input makes it True" in message
    assert "compile again with an example of this shape" in message


def padded(x: Tensor, multiple: int) -> Tensor:
    """Decides on the shape, outside of any module."""
    rest = x.shape[-1] % multiple
    if rest:
        x = nn.functional.pad(x, (0, multiple - rest))
    return x


class Padding(nn.Module):
    """Pads by a function, and adds."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = padded(x, 4)
        return x + self.linear(x).relu()


@pytest.mark.parametrize("example", [4, 3])
def test_functions_decide_again(example: int) -> None:
    model = Padding()
    program = transportify(model, torch.empty(2, example))
    for width in (1, 3, 4):
        x = torch.randn(5, width)
        assert_identical(program(x), model(x))


def halved(x: Tensor, linear: Tensor) -> Tensor:
    """Holds a residual, and decides."""
    if x.shape[0] % 2 == 0:
        return x + (x @ linear).relu()
    return x + (x @ linear).tanh()


class OddOrEven(nn.Module):
    """Decides on the batch size, where a residual is."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.linear = nn.Parameter(torch.randn(4, 4)), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(halved(halved(x, self.weight), self.weight))


class OnlyFive(OddOrEven):
    """Decides for one batch size alone."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] == 5:
            x = x + (x @ self.weight).relu()
        return self.linear(x)


def test_a_batch_size_that_decides_is_verified_itself() -> None:
    report = transportify(OnlyFive(), torch.empty(5, 4)).facts.verification
    assert report is not None
    checked = {c.batch_size: c.refused for c in report.checks}
    assert checked[5] is None
    assert all("GuardError" in (checked[size] or "") for size in (1, 2))


@pytest.mark.parametrize("batch", [3, 4])
def test_control_flow_on_the_batch_is_guarded(batch: int) -> None:
    """Whatever the batch size for which activations are counted, and those that are verified."""
    model = OddOrEven()
    program = transportify(model, torch.empty(batch, 4), modules=2, batch_size=7)
    report = program.facts.verification
    assert report is not None
    assert report.max_error == 0.0
    sizes = {c.batch_size for c in report.checks if c.refused is None}
    assert {size % 2 for size in sizes} == {batch % 2}
    assert len(program.facts.residuals) == 2
    for size in (batch, batch + 2):
        x = torch.randn(size, 4)
        assert_identical(program(x), model(x))
    with pytest.raises(GuardError, match=r"the model \(OddOrEven\) at test_resolution\.py:\d+"):
        program(torch.randn(batch + 1, 4))
