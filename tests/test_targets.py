"""One path leads from a name to what is compiled, and to a program that knows the name."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

import fxtransport
from fxtransport.compiler import compile_passes
from fxtransport.errors import ModelNameError, TraceError, UsageError
from fxtransport.origin import Origin
from fxtransport.submodule import whole_or_backbone
from fxtransport.targets import compile_named, compile_target, open_target

SIZES: list[tuple[str, Any, tuple[int, ...], dict[str, Any]]] = [
    ("timm:resnet18", "32x48", (3, 32, 48), {}),
    ("timm:resnet18", "1,32,32", (1, 32, 32), {"in_chans": 1}),
    ("timm:vit_tiny_patch16_224", 32, (3, 32, 32), {"img_size": 32}),
    ("timm:vit_tiny_patch16_224", "1,32,48", (1, 32, 48), {"img_size": (32, 48), "in_chans": 1}),
    ("torchvision:resnet18", 64, (3, 64, 64), {}),
    ("torchvision:vit_b_16", 32, (3, 32, 32), {"image_size": 32}),
    ("torchvision:r3d_18", 64, (3, 16, 64, 64), {}),
    ("nets:resnet_m", 8, (1, 8, 8), {"image_size": 8}),
    ("nets:circles_resnet", None, (2,), {}),
]


@pytest.mark.parametrize(("name", "size", "shape", "options"), SIZES)
def test_models_take_the_size_that_is_asked_for(
    name: str, size: Any, shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    target = open_target(name, input_size=size, device="meta")
    assert target.origin == Origin(name, options)
    assert [tuple(x.shape) for x in target.example.inputs] == [(2, *shape)]
    with torch.device("meta"), torch.no_grad():
        target.model.eval()(*target.example.inputs)


def test_a_transformer_of_torchvision_takes_squares() -> None:
    with pytest.raises(UsageError, match="vit_b_16 takes square images, not 32×48"):
        open_target("torchvision:vit_b_16", input_size="32x48", device="meta")


def test_options_win_over_those_that_follow_from_the_size() -> None:
    options = {"img_size": 48, "in_chans": 1}
    target = open_target(
        "timm:vit_tiny_patch16_224", options=options, input_size="1,48,48", device="meta"
    )
    assert target.origin == Origin("timm:vit_tiny_patch16_224", options)


@pytest.mark.parametrize(
    ("size", "shape"),
    [(None, (64, 56, 56)), (16, (64, 16, 16)), ("9x7", (64, 9, 7)), ("64,5,6", (64, 5, 6))],
)
def test_the_size_of_a_submodules_input(size: Any, shape: tuple[int, ...]) -> None:
    target = open_target("torchvision:resnet18#layer2", input_size=size, device="meta")
    assert target.path == "layer2"
    assert target.origin == Origin("torchvision:resnet18#layer2")
    assert tuple(target.example.inputs[0].shape) == (2, *shape)
    argument = open_target(
        "torchvision:resnet18", submodule="layer2", input_size=size, device="meta"
    )
    assert argument.origin == target.origin


def test_options_that_a_constructor_refuses_are_named() -> None:
    with pytest.raises(UsageError, match=r"^timm:resnet18 cannot be built with widht=3: "):
        open_target("timm:resnet18", options={"widht": 3}, device="meta")


def test_a_size_without_channels_where_the_model_does_not_say_them(nets: Path) -> None:
    with pytest.raises(UsageError, match="how many channels"):
        open_target(f"{nets}:Sizeless", input_size=8)
    assert open_target(f"{nets}:Sizeless", input_size="3,").example.inputs[0].shape == (2, 3)


def test_a_program_from_a_name(nets: Path) -> None:
    program = fxtransport.compile_named(
        f"{nets}:Net", options={"blocks": 3}, modules=3, balance="parameters", head="token"
    )
    assert program.facts.origin == Origin(f"{nets}:Net", {"blocks": 3})
    assert len(program.parts) == 3
    assert program.facts.verification is not None
    assert copy.deepcopy(program).facts.origin == program.facts.origin


def test_the_backbone_is_compiled_where_the_whole_cannot_be(nets: Path) -> None:
    program = compile_named(f"{nets}:Detects", modules=2, head="none", verify=False)
    assert program.facts.origin == Origin(f"{nets}:Detects#backbone")
    with pytest.raises(TraceError, match="data-dependent control flow"):
        compile_named(f"{nets}:Decides")


def test_a_submodule_that_is_asked_for_has_no_stand_in(nets: Path) -> None:
    target = open_target(f"{nets}:Detects", submodule="backbone")
    asked = []

    def fail(found: object) -> None:
        asked.append(found)
        raise TraceError("no")

    with pytest.raises(TraceError):
        whole_or_backbone(target, fail)
    assert asked == [target]


def test_names_that_mean_nothing() -> None:
    with pytest.raises(ModelNameError, match="no model is called"):
        open_target("no_such_model")


def test_a_target_without_a_name_makes_a_program_without_one(nets: Path) -> None:
    target = open_target(f"{nets}:Net")
    unnamed = compile_target(
        type(target)(target.model, target.example), compile_passes(verify=False)
    )
    assert unnamed.facts.origin is None
