"""Which exit of a run a command means."""

from dataclasses import replace

import pytest

from fxtransport.cli.run_exits import number_of, parts_of
from fxtransport.errors import UsageError
from fxtransport.runs.load import load_run
from tests.runs.photos import photo_run


def test_words_and_numbers() -> None:
    run = load_run(photo_run())
    assert run.best is not None
    assert parts_of(run, "all") == (0, 1)
    assert parts_of(run, "best") == (run.best.exit.part,)
    assert parts_of(run, "0") == (0,)
    assert parts_of(replace(run, best=None), "best") == (1,)
    with pytest.raises(UsageError, match="no trained exit 2: there are 0, 1"):
        parts_of(run, "2")
    assert [number_of(which) for which in (None, "best", "all", "1")] == [None, None, None, 1]
