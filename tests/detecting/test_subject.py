"""The classifier of a run, of a saved program, of a file: the same weights, and its own data."""

from pathlib import Path

import pytest
import torch
from PIL import Image

import fxtransport
from fxtransport.data import load
from fxtransport.detecting.source import DataSource
from fxtransport.detecting.subject import open_subject, open_watched
from fxtransport.errors import UsageError
from tests.cli.running import in_process, trained, write_net
from tests.detecting.small import new_images, subject, trained_run


def test_the_model_of_a_run_has_its_weights_and_logits() -> None:
    run = fxtransport.load_run(trained_run())
    images, pixels = (
        torch.cat([batch for batch, _ in each]) for each in (run.data.test, subject().data.test)
    )
    preprocessing = subject().preprocessing
    mean, std = (torch.tensor(v).reshape(-1, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    run.program.eval()
    with torch.no_grad():
        expected = run.program(images)
        torch.testing.assert_close(subject().program(images), expected)
        # pixels have 255 levels, digits 16
        found = subject().program((pixels - mean) / std)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.1)
    assert (found.argmax(1) == expected.argmax(1)).all()


def test_splits_are_those_of_the_run() -> None:
    run = fxtransport.load_run(trained_run())
    for own, other in (
        (run.data.validation, subject().data.validation),
        (run.data.test, subject().data.test),
    ):
        assert own is not None
        assert other is not None
        labels, same = (torch.cat([batch[1] for batch in each]) for each in (own, other))
        assert torch.equal(labels, same)


def test_what_detectors_read_decides_the_activations() -> None:
    assert subject().program.facts.activations == ("penultimate",)
    assert open_watched(trained_run(), ["one-class"]).facts.activations == ()


@pytest.mark.parametrize("activations", [(), ("penultimate",)])
def test_a_saved_program(tmp_path: Path, activations: tuple[str, ...]) -> None:
    program = fxtransport.compile_named(
        "nets:resnet_m",
        options={"blocks": 2, "channels": 8},
        input_size=8,
        verify=False,
        activations=activations,
        modules=2,
    )
    fxtransport.save(program, tmp_path / "net")
    found = open_subject(str(tmp_path / "net"), DataSource("digits"), detectors=["knn"])
    images = new_images().images
    program.eval()
    found.program.eval()
    with torch.no_grad():
        assert torch.equal(found.program(images), program(images))
    assert found.program.facts.activations == ("penultimate",)


def test_a_run_whose_best_exit_is_not_the_last_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    from fxtransport.detecting import subject as module

    options = ["--method", "vangl", "--modules", "2", "--epochs", "1"]
    folder = trained(in_process, tmp_path / "run", *options)
    found = fxtransport.load_run(folder, trust_files=True)
    assert found.best is not None
    first = dataclasses.replace(found.best.exit, part=0)
    other = dataclasses.replace(found, best=dataclasses.replace(found.best, exit=first))
    monkeypatch.setattr(module, "load_run", lambda *arguments, **options: other)
    assert "the best exit is part 0" in open_subject(str(folder), trust_files=True).note


def test_points_are_no_images() -> None:
    with pytest.raises(UsageError, match=r"moons are points|not for moons"):
        open_subject(str(trained_run()), DataSource("moons"))


def test_a_model_in_a_file_is_given_its_transform(tmp_path: Path) -> None:
    name = write_net(tmp_path)
    default = open_subject(name, DataSource("digits"))
    digits = load("digits", seed=0, batch_size=9)
    assert digits.transform is not None
    assert default.preprocessing.mean == pytest.approx(digits.transform["mean"], abs=2e-3)
    given = {"mean": [0.5], "std": [0.25], "interpolation": "bicubic"}
    other = open_subject(name, DataSource("digits"), transform=given)
    assert (other.preprocessing.mean, other.preprocessing.std) == ((0.5,), (0.25,))
    assert other.preprocessing.interpolation == "bicubic"
    for own, same in zip(default.data.test, other.data.test, strict=True):
        assert torch.equal(own[0], same[0])


def test_data_that_has_moved(tmp_path: Path) -> None:
    """A run on a folder of images, which is elsewhere now."""
    old, new = tmp_path / "old", tmp_path / "new"
    for name in ("a", "b"):
        (old / name).mkdir(parents=True)
        for number in range(12):
            level = number + 100 * (name == "b")
            Image.new("L", (8, 8), level).save(old / name / f"{number}.png")
    options = ["--data", "imagefolder", "--data-dir", str(old), "--epochs", "1", "--batch-size"]
    net = write_net(tmp_path)
    run = tmp_path / "run"
    arguments = ["--model-arg", "classes=2", "--validation", "0.4", "--output", str(run)]
    result = in_process("train", net, "--no-verify", *options, "4", *arguments)
    assert result.exit_code == 0, result.stderr
    before = open_subject(str(run), trust_files=True)
    old.rename(new)
    with pytest.raises(UsageError, match="old"):
        open_subject(str(run), trust_files=True)
    after = open_subject(str(run), root=str(new), trust_files=True)
    assert after.source.root == str(new)
    assert before.preprocessing == after.preprocessing
    assert sum(len(labels) for _, labels in after.data.test) == before.data.test.num_samples
