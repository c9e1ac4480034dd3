"""An encoder and its decoder are trained, and read from their file."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from fxtransport.data import OrderedStream, ShuffledStream, TensorSamples
from fxtransport.errors import TrainingError, UsageError
from fxtransport.nets import Decoder, resnet_m
from fxtransport.runs.autoencoders import (
    METADATA,
    Autoencoder,
    Saved,
    make_autoencoder,
    reconstruction_error,
    save_autoencoder,
    train_autoencoder,
)
from fxtransport.runs.config import complete_config
from fxtransport.runs.recipe import Recipe, make_recipe

IMAGES = TensorSamples(
    torch.randn(24, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(24).long()
)


def recipe(seed: int = 0, **options: object) -> Recipe:
    return make_recipe(
        complete_config(
            {
                "model.name": "nets:resnet_m",
                "model.input_size": "8",
                "model.options": {"blocks": 1, "channels": 4, **options},
                "trainer.seed": seed,
                "trainer.device": "cpu",
            }
        )
    )


def small() -> Autoencoder:
    torch.manual_seed(0)
    encoder = resnet_m(blocks=1, channels=4, image_size=8).encoder
    return Autoencoder(encoder, Decoder((4, 4, 4), (1, 8, 8)), "encoder")


def test_training_brings_images_back_and_is_deterministic() -> None:
    told: list[tuple[int, float]] = []
    models = []
    for tell in (lambda *told_of: told.append(told_of), lambda *_: None):
        model = small()
        stream = ShuffledStream(IMAGES, batch_size=8, seed=0)
        train_autoencoder(model, stream, epochs=12, lr=0.02, tell=tell)
        models.append(model)
    assert [epoch for epoch, _ in told] == [*range(1, 13)]
    assert told[-1][1] < 0.7 * told[0][1]
    one, other = (model.state_dict() for model in models)
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert not torch.are_deterministic_algorithms_enabled()
    batches = OrderedStream(IMAGES, 7)
    by_hand = (models[0].eval()(IMAGES.inputs) - IMAGES.inputs).square().mean().detach()
    assert reconstruction_error(models[0], batches) == pytest.approx(float(by_hand), rel=1e-5)


def test_what_cannot_be_trained() -> None:
    samples = TensorSamples(IMAGES.inputs * torch.nan, IMAGES.targets)
    with pytest.raises(TrainingError, match="not a number in epoch 1"):
        train_autoencoder(small(), ShuffledStream(samples, batch_size=8, seed=0), epochs=2)
    with pytest.raises(UsageError, match="the device 'nowhere' cannot be used"):
        train_autoencoder(small(), ShuffledStream(IMAGES, 8, 0), epochs=1, device="nowhere")


def test_the_encoder_is_that_of_the_model_and_its_seed() -> None:
    made = make_autoencoder(recipe(), "encoder")
    assert (made.decoder.hidden, made.decoder.image) == ((4, 4, 4), (1, 8, 8))
    same, other = make_autoencoder(recipe(), "encoder"), make_autoencoder(recipe(1), "encoder")
    weights = made.encoder[0].weight
    assert torch.equal(weights, same.encoder[0].weight)
    assert not torch.equal(weights, other.encoder[0].weight)


def test_what_is_no_encoder_of_images() -> None:
    with pytest.raises(UsageError, match="no submodule 'encode': did you mean encoder"):
        make_autoencoder(recipe(), "encode")
    with pytest.raises(UsageError, match="blocks takes no images of 1×8×8"):
        make_autoencoder(recipe(), "blocks")
    with pytest.raises(
        UsageError, match=r"head\.0 cannot be decoded.*not from 64; give another encoder"
    ):
        make_autoencoder(recipe(), "head.0")
    points = make_recipe(
        complete_config({"model.name": "nets:circles_resnet", "data.name": "moons"})
    )
    with pytest.raises(UsageError, match="are points: an autoencoder is of images"):
        make_autoencoder(points, "encoder")


def test_a_file_holds_encoder_and_decoder(tmp_path: Path) -> None:
    model, file = small(), tmp_path / "encoder.safetensors"
    save_autoencoder(model, file)
    saved = Saved.read(file)
    again = resnet_m(blocks=1, channels=4, image_size=8).encoder
    again.load_state_dict(saved.encoder)
    model.eval()
    assert torch.equal(saved.decoder(again.eval()(IMAGES.inputs)), model(IMAGES.inputs))
    assert (saved.path, saved.decoder.training) == ("encoder", False)


def test_other_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    with pytest.raises(UsageError, match="there is no file"):
        Saved.read(file)
    file.write_bytes(b"no tensors")
    with pytest.raises(UsageError, match="cannot read the autoencoder"):
        Saved.read(file)
    save_file(nn.Linear(2, 2).state_dict(), file)
    with pytest.raises(UsageError, match="a file that fxtransport autoencode wrote"):
        Saved.read(file)
    save_autoencoder(small(), file)
    state = load_file(file)
    about = {"encoder": "encoder", "hidden": [4, 4, 4], "image": [1, 8, 8]}
    for changed in ("[]", "{", json.dumps({**about, "hidden": [8, 4, 4]}), json.dumps({})):
        save_file(state, file, metadata={METADATA: changed})
        with pytest.raises(UsageError, match="is damaged"):
            Saved.read(file)
