"""Blocks of a run are decoded, if they keep what the autoencoder's encoder makes."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from fxtransport import transportify
from fxtransport.errors import UsageError
from fxtransport.nets import Decoder, resnet_m
from fxtransport.nets.blocks import BasicBlock, Network, PreActBlock, conv3x3
from fxtransport.report.cloud_pictures import clouds_of
from fxtransport.runs.autoencoders import Autoencoder, save_autoencoder
from fxtransport.runs.decoding import Decoding, decode, one_of_each
from fxtransport.runs.load import Run

IMAGES = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
TRANSFORM = {"mean": (0.5,), "std": (0.2,)}


def network(*blocks: nn.Module) -> Network:
    encoder = nn.Sequential(nn.Conv2d(1, 4, 5, stride=2, padding=2), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(3))
    model = Network(encoder, blocks, head, input_size=(1, 8, 8), num_classes=3)
    model(IMAGES)
    return model.eval()


def run_of(model: Network, transform: dict[str, Any] | None = TRANSFORM) -> Run:
    """What is asked of a run: its program, how to build its model, and its images."""
    recipe = SimpleNamespace(target=lambda: SimpleNamespace(model=model))
    program = transportify(model, IMAGES[:2], verify=False)
    inputs = SimpleNamespace(transform=transform)
    return cast(Run, SimpleNamespace(program=program, recipe=recipe, inputs=inputs))


def written(model: Network, folder: Path, hidden: tuple[int, ...] = (4, 4, 4)) -> Path:
    """The file of an autoencoder with the encoder of a model."""
    file = folder / "encoder.safetensors"
    save_autoencoder(Autoencoder(model.encoder, Decoder(hidden, (1, 8, 8)), "encoder"), file)
    return file


def decoded(run: Run, file: Path, images: Tensor = IMAGES) -> Decoding:
    return decode(run, file, images, clouds_of(run.program, IMAGES))


@pytest.mark.parametrize(
    "block",
    [lambda: PreActBlock(4), lambda: BasicBlock(4, 4)],
    ids=["before the activation", "after it"],
)
def test_what_each_block_returns_is_decoded(block: Callable[[], nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = network(block(), block())
    file = tmp_path / "encoder.safetensors"
    decoder = Decoder((4, 4, 4), (1, 8, 8))
    save_autoencoder(Autoencoder(model.encoder, decoder, "encoder"), file)
    found = decoded(run_of(model), file)
    with torch.no_grad():
        states = [model.encoder(IMAGES)]
        for each in model.blocks:
            states.append(each(states[-1]))
        expected = [(decoder(state) * 0.2 + 0.5).clamp(0, 1) for state in states]
    for shown, by_hand in zip(found.decoded, expected, strict=True):
        torch.testing.assert_close(shown, by_hand)
    torch.testing.assert_close(found.images, (IMAGES * 0.2 + 0.5).clamp(0, 1))
    far = (expected[2] - expected[0]).square().mean().sqrt()
    assert found.changes == pytest.approx((found.changes[0], float(far)), rel=1e-4)
    assert 0 < found.changes[0] < found.changes[1]
    off = (expected[0] - found.images).square().mean().sqrt()
    assert found.error == pytest.approx(float(off), rel=1e-4)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = network(PreActBlock(4))
    file = written(model, tmp_path)
    with pytest.raises(UsageError, match="the run is of points"):
        decoded(run_of(model, None), file)
    with pytest.raises(UsageError, match="of images of 1×8×8, and the run of 3×8×8"):
        decoded(run_of(model), file, torch.zeros(5, 3, 8, 8))
    with pytest.raises(UsageError, match=r"encoder\.safetensors is not one of the run's model"):
        decoded(run_of(model), written(resnet_m(1, channels=4, image_size=8), tmp_path))
    with pytest.raises(UsageError, match="no residual block"):
        decode(run_of(model), file, IMAGES, [])


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    """One that trained on, and one that the first block is not given the output of."""
    model = network(PreActBlock(4))
    file = written(model, tmp_path)
    with torch.no_grad():
        model.encoder[0].weight.mul_(1.1)
    run = run_of(model)
    with pytest.raises(UsageError, match=r"(?s)something else.*trainer\.freeze=encoder"):
        decoded(run, file)
    between = network(conv3x3(4, 4), PreActBlock(4))
    with pytest.raises(UsageError, match="the first block of the run is given something else"):
        decoded(run_of(between), written(between, tmp_path))


def test_blocks_that_change_the_shape_are_named(tmp_path: Path) -> None:
    halved = network(PreActBlock(4), BasicBlock(4, 8, stride=2, shortcut="projection"))
    with pytest.raises(UsageError, match=r"block 'blocks\.1' returns 8×2×2, and the decoder"):
        decoded(run_of(halved), written(halved, tmp_path))
    model = network(PreActBlock(4))
    with pytest.raises(UsageError, match="blocks begin at 4×4×4, and the decoder in"):
        decoded(run_of(model), written(model, tmp_path, hidden=(8, 4, 4)))


def test_rows_are_of_each_class_in_turn() -> None:
    classes = torch.tensor([2, 0, 0, 1, 2, 0])
    assert one_of_each(classes, 9) == [1, 3, 0, 2, 4, 5]
    assert one_of_each(classes, 2) == [1, 3]
