"""The layers of a model that can be paired, with their shapes, parts and depths."""

import pytest
import timm
import torch
from torch import Tensor, nn

from fxtransport.compiler import compile_passes
from fxtransport.errors import UsageError
from fxtransport.example_inputs import example_of
from fxtransport.pairing.sites import (
    named_pairs,
    parse_layers,
    site_names,
    sites_of,
    with_taps,
    write_layers,
)
from fxtransport.pairing.students import compile_tapped
from fxtransport.passes.trace import Trace
from tests.networks import IMAGES, Neither, Net, Plain, VectorNet

PASSES = compile_passes(verify=False)


def names_of(model: nn.Module, example: Tensor) -> tuple[str, ...]:
    return site_names(model, example_of(model, example), PASSES)


def test_blocks_and_what_enters_the_classifier() -> None:
    assert names_of(Net(), IMAGES) == (*(f"blocks.{i}" for i in range(4)), "penultimate")


def test_a_block_with_two_additions_is_one_site() -> None:
    model = timm.create_model("test_vit", img_size=32)
    found = names_of(model, torch.zeros(2, 3, 32, 32))
    assert found == (*(f"blocks.{i}" for i in range(len(model.blocks))), "penultimate")


class Loop(nn.Module):
    """Adds five residuals in one forward."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(5))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x).relu()
        logits: Tensor = self.head(x)
        return logits


def test_additions_of_the_root_are_named_by_their_nodes() -> None:
    model, example = Loop(), torch.zeros(2, 4)
    found = names_of(model, example)
    assert len(found) == 6
    program = compile_tapped(model, example_of(model, example), PASSES, "auto")
    sites = sites_of(program)
    assert [*sites] == [*found]
    assert [site.depth for site in sites.values()] == [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]


def test_layers_stand_in_for_residuals() -> None:
    model, example = Plain(), torch.zeros(2, 4, 8, 8)
    found = names_of(model, example)
    assert len(found) == 5
    sites = sites_of(compile_tapped(model, example_of(model, example), PASSES, "auto"))
    assert {site.layer.shape for name, site in sites.items() if name != "penultimate"} == {
        (4, 8, 8)
    }


def test_a_model_without_either_has_a_penultimate_layer() -> None:
    assert names_of(Neither(), torch.zeros(2, 8)) == ("penultimate",)


def test_parts_shapes_and_channels() -> None:
    model = timm.create_model("test_vit", img_size=32, num_classes=5)
    example = example_of(model, torch.zeros(2, 3, 32, 32))
    program = compile_tapped(model, example, compile_passes(verify=False, modules=2), "auto")
    sites = sites_of(program)
    assert [site.part for site in sites.values()] == sorted(s.part for s in sites.values())
    assert {site.part for site in sites.values()} == {0, 1}
    block = sites["blocks.0"]
    assert block.layer.channels == 2
    assert block.layer.width == model.embed_dim
    assert block.positions == (block.layer.shape[0],)
    assert sites["penultimate"].positions == ()


def test_channels_last_maps() -> None:
    """Swin keeps its channels last."""
    model = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=12, depths=(1, 1)
    )
    example = example_of(model, torch.zeros(2, 3, 32, 32))
    sites = sites_of(compile_tapped(model, example, PASSES, "auto"))
    block = sites["layers.0.blocks.0"]
    assert (block.layer.channels, block.layer.width, block.positions) == (3, 12, (8, 8))


def test_taps_are_added_to_those_there_are() -> None:
    passes = with_taps(compile_passes(verify=False, activations=("stem",)), ("stem", "blocks.1"))
    [trace] = [step for step in passes if isinstance(step, Trace)]
    assert trace.activations == ("stem", "blocks.1")
    assert with_taps(passes[:0], ("a",)) == (Trace(activations=("a",)),)


def test_a_stage_is_a_layer() -> None:
    model = VectorNet()
    example = example_of(model)
    program = compile_tapped(model, example, PASSES, [("1", "1")])
    assert sites_of(program)["1"].layer.shape == (6,)


@pytest.mark.parametrize("text", ["penultimate", "auto", "layer3=stages.2,layer4=stages.3"])
def test_layers_as_text(text: str) -> None:
    assert write_layers(parse_layers(text)) == text


@pytest.mark.parametrize("text", ["last", "a=", "=b", "a=b,", "a=b,c"])
def test_layers_that_are_no_pairs(text: str) -> None:
    with pytest.raises(UsageError, match="layers are penultimate, auto, or STUDENT=TEACHER"):
        parse_layers(text)


@pytest.mark.parametrize("given", ["last", ["layer3"], [("a", "b", "c")], [("a", "")], [1], []])
def test_layers_in_python_that_are_no_pairs(given: object) -> None:
    with pytest.raises(UsageError, match="layers are 'penultimate', 'auto', or pairs of names"):
        named_pairs(given)  # type: ignore[arg-type]
