"""What a folder says of its run."""

from pathlib import Path

import pytest

from fxtransport.errors import UsageError
from fxtransport.training import Parallel
from fxtransport.training.records import read_record, short_names
from tests.training.runs import train_stream, trainer_of, validation_stream

HEAD = "epoch,part,validation_accuracy,transport,peak_memory,samples_per_second,elapsed"
ROWS = [
    "1,0,0.5,2.0,100,10,3",
    "1,1,0.25,,,,3",
    "2,0,0.75,1.0,300,30,8",
    "2,1,0.75,,,,8",
    "3,0,0.75,,200,20,9",
]


def written(folder: Path, *rows: str, results: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.csv").write_text("\n".join((HEAD, *rows)) + "\n")
    if results:
        (folder / "results.json").write_text(results)
    return folder


def test_a_run_that_goes_on(tmp_path: Path) -> None:
    found = read_record(written(tmp_path, *ROWS))
    assert (found.exits, found.epochs, found.results) == ((0, 1), 3, None)
    assert (found.seconds, found.peak_memory, found.samples_per_second) == (9.0, 300, 20.0)
    assert found.best(0) == (0.75, 2)
    assert found.curve(0, "transport") == ([1, 2], [2.0, 1.0])
    assert (found.last(0, "transport"), found.last(1, "transport")) == (1.0, None)
    assert found.test_accuracy is None


def test_numbers_that_are_not_known(tmp_path: Path) -> None:
    found = read_record(written(tmp_path, results='{"test": null}'))
    assert (found.seconds, found.peak_memory, found.samples_per_second) == (None, None, None)
    assert (found.exits, found.epochs, found.best(0), found.test_accuracy) == ((), 0, None, None)


def test_a_finished_run(tmp_path: Path) -> None:
    report = trainer_of(Parallel(2), tmp_path).fit(
        train_stream(), validation_stream(), validation_stream()
    )
    found = read_record(tmp_path)
    assert report.best is not None
    assert report.test is not None
    assert max(found.best(k) or (0.0, 0) for k in found.exits)[0] == report.best.exit.accuracy
    assert found.test_accuracy == report.test.accuracy


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no run of fxtransport train: it has no metrics"):
        read_record(tmp_path)
    with pytest.raises(UsageError, match="is damaged: line 2"):
        read_record(written(tmp_path / "a", "1,2"))
    for results in ("{", "[]"):
        with pytest.raises(UsageError, match="is damaged"):
            read_record(written(tmp_path / "b", *ROWS, results=results))
    (tmp_path / "c" / "metrics.csv").mkdir(parents=True)
    with pytest.raises(UsageError, match="cannot read"):
        read_record(tmp_path / "c")


def test_names_that_tell_runs_apart() -> None:
    assert short_names([Path("a/b"), Path("c/d")]) == ["b", "d"]
    assert short_names([Path("a/b"), Path("c/b")]) == ["a/b", "c/b"]
    assert short_names([Path("a/b"), Path("a/b")]) == ["b", "b"]
