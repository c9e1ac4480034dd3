"""Nothing that a model does ends the sweep."""

from pathlib import Path

import pytest

from fxtransport.zoo.sweep import sweep

BAD = """

def crash():
    import os
    os._exit(3)


def sleep():
    import time
    time.sleep(60)


def unforeseen():
    raise SystemError("oh")
"""


@pytest.mark.slow
def test_no_model_ends_the_sweep(nets: Path, tmp_path: Path) -> None:
    file = tmp_path / "nets.py"
    file.write_text(nets.read_text() + BAD)
    names = [f"{file}:{name}" for name in "Net crash sleep unforeseen Decides Plain".split()]
    found = {r.model.rpartition(":")[2]: r for r in sweep(names, jobs=2, timeout=3)}
    kinds = {name: r.refusal.kind if r.refusal else None for name, r in found.items()}
    assert kinds == {
        "Net": None,
        "crash": "Crash: the process ended with code 3",
        "sleep": "Timeout: took more than 3 s",
        "unforeseen": "ModelNameError: unforeseen failed",
        "Decides": "TraceError: has data-dependent control flow",
        "Plain": None,
    }
    assert found["Net"].residuals == {"identity": 4}
    assert 3 <= found["sleep"].seconds < 10
