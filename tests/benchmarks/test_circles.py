"""The circles: their points, how epochs are counted, and a tiny run of every kind."""

import json
from pathlib import Path

import circles
import pytest
import torch
from click.testing import CliRunner
from common import RESULTS
from intervals import mean_of


def test_points_are_cut_as_published() -> None:
    train, test, train_classes, test_classes = circles.points_of(circles.SETTINGS["1 block"], 3)
    assert train.shape == (800, 2)
    assert test.shape == (200, 2)
    radii = torch.cat([train, test]).norm(dim=1)
    inner = torch.cat([train_classes, test_classes]) == 1
    assert inner.sum() == 500
    torch.testing.assert_close(radii[inner].mean(), torch.tensor(0.3), atol=0.02, rtol=0)
    torch.testing.assert_close(radii[~inner].mean(), torch.tensor(1.0), atol=0.02, rtol=0)


def test_three_epochs_in_a_row_count_as_reached() -> None:
    rows = torch.tensor(
        [
            [0.9, 1, 1, 1, 1],
            [1, 1, 0.9, 1, 1],
            [1, 1, 1, 0.9, 1],
        ]
    )
    assert circles.epochs_to_reach(rows).tolist() == [4, 5, 3]


@pytest.mark.parametrize("name", ["1 block", pytest.param("N(0, 5)", marks=pytest.mark.slow)])
def test_a_table_in_small(name: str) -> None:
    job = circles.Job(name, True, "norm", instances=2, epochs=3, device="cpu")
    accuracies = circles.train(job)
    assert accuracies.shape == (3, 2, 3)
    assert ((accuracies >= 0) & (accuracies <= 1)).all()
    assert torch.equal(accuracies, circles.train(job))


def test_every_table_has_what_is_published() -> None:
    for name, setting in circles.SETTINGS.items():
        columns = setting.published.values()
        assert all(len(column) == len(circles.METHODS) for column in columns)
        assert (len(columns) == 2) == (name != circles.TWO_BLOCKS)


def test_the_page_of_evidence_has_what_was_measured() -> None:
    page = (Path(__file__).parents[2] / "docs" / "evidence.md").read_text()
    results = json.loads((RESULTS / "circles.cpu.json").read_text())["results"]
    for name, setting in circles.SETTINGS.items():
        for i, method in enumerate(circles.METHODS if setting.published else ()):
            cells = []
            for batch_norm, there in setting.published.items():
                here = mean_of(results[circles.title_of(name, batch_norm)]["best"][method])
                mark = "" if here.against(there[i]) == "agrees" else "**"
                cells += [f"{mark}{here}{mark}", str(there[i])]
            assert f"{method} | {' | '.join(cells)} |" in page, (name, method)


@pytest.mark.slow
def test_the_program_prints_both_tables() -> None:
    only = [option for name in ("1 block", "2 blocks") for option in ("--only", name)]
    result = CliRunner().invoke(
        circles.main, ["--quick", "--processes", "0", *only], catch_exceptions=False
    )
    assert "76.6 ± 3.5" in result.output
    assert "epochs to reach 100 %" in result.output
