"""The classifier of a run, of a saved program, of a file: the same weights, and its own data."""

from pathlib import Path

import pytest
import torch

import fxtransport
from fxtransport.detecting.source import DataSource
from fxtransport.detecting.subject import open_subject, open_watched
from fxtransport.errors import UsageError
from tests.cli.running import in_process, trained
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
