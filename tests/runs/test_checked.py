"""A run that is resumed or evaluated does not decode once more what it has checked."""

from pathlib import Path
from typing import Any

import pytest

from fxtransport.data import checked as module
from fxtransport.data.checked import Checked
from fxtransport.data.decode import decode
from fxtransport.errors import CheckpointError
from fxtransport.runs.checked import read_checked, write_checked
from tests.cli.running import in_process
from tests.runs.photos import QUICK, SIZE, write_tiles


def test_images_are_checked_once_in_the_life_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []

    def counted(file: Any) -> Any:
        decoded.append(file)
        return decode(file)

    monkeypatch.setattr(module, "decode", counted)
    tiles, run = write_tiles(tmp_path / "tiles", 12), tmp_path / "run"
    bad = tiles / "cat" / "zz.jpg"
    bad.write_bytes((tiles / "cat" / "00.jpg").read_bytes()[:-100])
    options = ["--method", "e2e", "--on-bad-image", "skip", "--output", str(run)]
    begun = in_process("train", "test_resnet", "--data", str(tiles), *SIZE, *QUICK, *options)
    assert begun.exit_code == 0, begun.stderr
    # of the bad one, not even the head can be read
    assert len(decoded) == 36
    for command in (["train", "--resume", str(run), "--epochs", "3"], ["evaluate", str(run)]):
        result = in_process(*command)
        assert result.exit_code == 0, result.stderr
    assert f"1 image that cannot be read left out: {bad}" in begun.stderr
    assert len(decoded) == 36
    # a file of the run, which the list of its files knows
    assert "checked.txt" in (run / "files.txt").read_text().splitlines()
    # repaired, it is decoded, and is another image than the run began with
    bad.write_bytes((tiles / "cat" / "01.png").read_bytes() + b"\0")
    refused = in_process("evaluate", str(run))
    assert "the run began with other data" in refused.stderr
    assert len(decoded) == 37


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    assert not read_checked(tmp_path).defects
    write_checked(tmp_path, Checked({b"0" * 16: None}))
    assert read_checked(tmp_path).defects == {b"0" * 16: None}
    (tmp_path / "checked.txt").write_text("00 ok\n")
    with pytest.raises(CheckpointError, match=r"checked\.txt is damaged: line 1 .*; delete it"):
        read_checked(tmp_path)
