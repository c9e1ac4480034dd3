"""Table 1 on MNIST: a tiny run of every method, and what the table says."""

from itertools import product
from pathlib import Path

import mnist_lap
import pytest
from click.testing import CliRunner
from intervals import mean_of
from mnist import Records
from mnist_lap import Job
from torch import nn


def test_methods_train_and_differ() -> None:
    def found(method: str) -> list[float]:
        job = Job(60, "norms", method)
        given = mnist_lap.train(job, 0, epochs=4, test=100, device="cpu")
        assert given["test_images"] == 100
        assert 0 <= given["last"] <= given["highest"] <= 100
        return [given["highest"], given["last"]]

    assert found("LAP, λL + C") == found("LAP, λL + C")
    assert found("vanilla, lr 0.1") != found("vanilla")


@pytest.mark.parametrize("encoder", mnist_lap.ENCODERS)
def test_networks_start_from_images_or_from_what_a_frozen_encoder_made(
    encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist_lap, "pretrained", lambda: nn.Conv2d(1, 32, 1, stride=2))
    given = mnist_lap.ENCODERS[encoder]
    drawn = mnist_lap.prepare(mnist_lap.draw(40, 20, 0, device="cpu"), given)
    whole = mnist_lap.compile_network(given).whole
    assert whole(drawn.test.images, measure=None).logits.shape == (20, 10)
    assert drawn.train.images.shape[1:] == ((32, 14, 14) if given.frozen else (1, 28, 28))
    assert (drawn.train.images.min() < 0) == given.normalized
    norms = [m for m in whole.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 17 + 2 * given.norm


@pytest.mark.parametrize("method", mnist_lap.METHODS)
def test_multipliers_are_the_published_ones(method: str) -> None:
    state = mnist_lap.METHODS[method].objective().state()
    assert (None if state is None else state.value.item()) == (5 if "LAP" in method else None)


def test_differences_are_between_networks_of_the_same_seed() -> None:
    results = {
        "100 images, norms, vanilla": {"0": {"highest": 50.0}, "1": {"highest": 60.0}},
        "100 images, norms, LAP, λL + C": {s: {"highest": 70.0 + int(s)} for s in "012"},
    }
    table = mnist_lap.table_of(results, "norms")
    rows = [[*cells] for cells in zip(*(column.cells for column in table.columns), strict=True)]
    assert [row[:3] for row in rows] == [["100", "vanilla", "2"], ["100", "LAP, λL + C", "3"]]
    assert rows[0][4:6] == ["56.4 ± 1.5", "agrees"]
    assert rows[1][6].startswith("+15.5 ±")  # 70 - 50 and 71 - 60
    assert rows[1][7] == "+13.6"


def test_the_page_of_evidence_has_what_was_measured() -> None:
    page = (Path(__file__).parents[2] / "docs" / "evidence.md").read_text()
    results = Records("mnist_lap", "cpu").read()
    written = 0
    for images, encoder, method in product(
        mnist_lap.PUBLISHED, mnist_lap.ENCODERS, mnist_lap.METHODS
    ):
        found = results.get(Job(images, encoder, method).cell, {})
        if len(found) >= 3:
            here = mean_of([one["highest"] for one in found.values()])
            assert f"{here} ({len(found)})" in page, (images, encoder, method)
            written += 1
    assert written >= 10


@pytest.mark.slow
def test_the_program_prints_its_table() -> None:
    result = CliRunner().invoke(mnist_lap.main, ["--quick"], catch_exceptions=False)
    assert "56.4 ± 1.5" in result.output
    assert "50 test images" in result.output
