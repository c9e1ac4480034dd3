"""``fxtransport autoencode``: an encoder, a run that keeps it, and what its blocks show."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fxtransport.runs.load import load_run
from tests.cli.running import Command

MODEL = ("nets:resnet_m", "--image-size", "8", "--model-arg", "blocks=2")
DATA = ("--train-samples", "200", "--batch-size", "50", "--device", "cpu")


def test_from_the_encoder_to_the_picture(run: Command, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra 'plots'")
    file, folder, picture = tmp_path / "a.safetensors", tmp_path / "run", tmp_path / "images.png"
    made = run("autoencode", *MODEL, *DATA, "-n", "8", "--lr", "0.01", "-o", str(file), "--json")
    assert made.exit_code == 0, made.stderr
    about = json.loads(made.stdout)
    assert about["errors"].keys() == {"validation", "test"}
    assert about["errors"]["test"] < 0.7
    kept = ("--initial-checkpoint", str(file), "--freeze", "encoder")
    options = ("--method", "e2e", "--epochs", "1", "--no-verify", "-o", str(folder))
    trained = run("train", *MODEL, *DATA, *kept, *options)
    assert trained.exit_code == 0, trained.stderr
    weights, encoder = load_run(folder).program.state_dict(), load_file(file)
    names = [
        n for n in encoder if n.startswith("encoder.") and not n.endswith("num_batches_tracked")
    ]
    assert len(names) == 10  # two convolutions, and two batch norms with their statistics
    assert all(torch.equal(encoder[name], weights[name]) for name in names)

    shown = ("clouds", str(folder), "--autoencoder", str(file), "--split", "test")
    result = run(*shown, "--picture", str(picture), "--rows", "3")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[0].split()[-2:] == ["image", "changed"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    found = json.loads(run(*shown, "--json").stdout)
    assert 0 < found["autoencoder_changed"] < 0.3
    first, second = found["blocks"]
    assert 0 < first["image_changed"] != second["image_changed"] > 0
    assert result.stdout.split()[-1] == f"{second['image_changed']:.4f}"

    other = tmp_path / "other.safetensors"
    made = run("autoencode", *MODEL, *DATA, "-n", "1", "--seed", "1", "-o", str(other))
    assert made.stdout.startswith(f"{other}: mean square error"), made.stderr
    refused = run("clouds", str(folder), "--autoencoder", str(other))
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert f"(--initial-checkpoint {other}) and keep it (--freeze encoder)" in refused.stderr


def test_what_is_refused(run: Command, tmp_path: Path) -> None:
    named = run("autoencode", *MODEL, "-o", str(tmp_path / "a.pth"))
    assert (named.exit_code, named.stdout) == (2, "")
    assert "name the file a.safetensors, not a.pth" in named.stderr
    result = run("autoencode", *MODEL, "--encoder", "encode", "-o", str(tmp_path / "a.safetensors"))
    assert result.exit_code == 2
    assert "no submodule 'encode': did you mean encoder" in result.stderr
    assert not list(tmp_path.iterdir())
    alone = run("clouds", str(tmp_path), "--rows", "3")
    assert (alone.exit_code, alone.stdout) == (2, "")
    assert "give --autoencoder and --picture" in alone.stderr
