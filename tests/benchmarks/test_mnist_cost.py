"""Figure 11 on MNIST: a point, the line, and the picture."""

from pathlib import Path

import mnist_cost
import pytest
from click.testing import CliRunner
from mnist import Records

POINTS = [
    {"accuracy": 90.0, "cost": 10.0},
    {"accuracy": 80.0, "cost": 1000.0},
    {"accuracy": 85.0, "cost": 100.0},
]


def test_larger_gains_make_larger_costs() -> None:
    small, large = (
        mnist_cost.train(("orthogonal", gain), 0, images=40, epochs=1, test=50, device="cpu")
        for gain in (0.01, 1.0)
    )
    assert small["cost"] < large["cost"]
    assert small["test_images"] == 50


def test_the_line_goes_through_points_on_a_line() -> None:
    line = mnist_cost.fit(POINTS)
    assert line.slope == pytest.approx(-0.2)
    assert line.intercept == pytest.approx(19)
    assert line.correlation == pytest.approx(-1)
    assert str(line).startswith("19 -0.2 · accuracy, correlation -1.00")
    assert -1 < mnist_cost.fit(POINTS, log=False).correlation < -0.5


def test_the_same_picture_is_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist_cost, "RESULTS", tmp_path)
    results = {"some": dict(enumerate(POINTS[:2])), "others": {"0": POINTS[2]}}
    pictures = []
    for _ in range(2):
        mnist_cost.draw_picture(results, mnist_cost.fit(POINTS), "figure")
        pictures.append((tmp_path / "figure.svg").read_text())
    assert pictures[0] == pictures[1]
    assert "<svg" in pictures[0]


def test_the_page_of_evidence_has_what_was_measured() -> None:
    page = (Path(__file__).parents[2] / "docs" / "evidence.md").read_text()
    results = Records("mnist_cost", "cpu").read()
    every = [point for found in results.values() for point in found.values()]
    largest = [*results["normal, gain 0.2"].values()]
    rest = [point for point in every if point not in largest]
    for points in (every, rest):
        for log in (False, True):
            fit = mnist_cost.fit(points, log=log)
            said = f"{fit.correlation:.2f} (p = {fit.p:.2g})".replace("-0", "−0", 1)
            assert said in " ".join(page.split()), said
    for init, found in results.items():
        accuracies = ", ".join(f"{point['accuracy']:.1f}" for point in found.values())
        assert f"| {init} | {accuracies} |" in page


@pytest.mark.slow
def test_the_program_prints_its_table() -> None:
    result = CliRunner().invoke(mnist_cost.main, ["--quick"], catch_exceptions=False)
    assert "correlation" in result.output
