"""Pictures are checked before anything is computed, and are the same file each time."""

import sys
from pathlib import Path

import pytest

from fxtransport.errors import UsageError
from fxtransport.report.pictures import check_format, panels, save


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"pip install 'fxtransport\[plots\]'"):
        check_format(Path("a.png"))


@pytest.mark.parametrize("name", ["a", "a.csv", "a.png.txt"])
def test_formats_that_are_not_known(name: str) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra 'plots'")
    with pytest.raises(UsageError, match=r"says no format of pictures: take \.png"):
        check_format(Path(name))


def test_files(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra 'plots'")
    for name in ("a.svg", "b.svg", "c.PNG"):
        check_format(tmp_path / name)
        figure, axes = panels(5, columns=3)
        assert len(axes) == len(figure.axes) == 5
        save(figure, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "c.PNG").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="cannot write"):
        save(panels(1)[0], tmp_path / "none" / "a.png")
