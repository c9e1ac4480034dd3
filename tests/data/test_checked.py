"""No image is decoded twice to see whether it can be, and a changed one is decoded again."""

from pathlib import Path
from typing import Any

import pytest

from fxtransport.data import checked as module
from fxtransport.data import load
from fxtransport.data.checked import Checked
from fxtransport.data.decode import decode
from fxtransport.errors import UsageError
from tests.data.making import IDENTITY, encoded, gray, write_folder

OPTIONS: dict[str, Any] = {"batch_size": 4, "input_size": (3, 8, 8), "transform": IDENTITY}


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How long each file was that was decoded to check it."""
    lengths: list[int] = []

    def counted(file: Any) -> Any:
        lengths.append(len(file.getvalue()))
        return decode(file)

    monkeypatch.setattr(module, "decode", counted)
    return lengths


@pytest.mark.parametrize("how", ["check", "skip"])
def test_images_are_decoded_once(tmp_path: Path, how: str, decoded: list[int]) -> None:
    options: dict[str, Any] = {"check_data": True} if how == "check" else {"on_bad_image": "skip"}
    options |= OPTIONS
    for i, name in enumerate(("train", "val")):
        write_folder(tmp_path / name, {"ant": 4, "bee": 4}, first_level=8 * i)
    known = Checked()
    load(str(tmp_path), seed=0, checked=known, **options)
    assert len(decoded) == 16
    # in another process
    known = Checked.parse(known.text())
    load(str(tmp_path), seed=0, checked=known, **options)
    assert len(decoded) == 16
    path = tmp_path / "val/bee/012.png"
    path.write_bytes(encoded(gray(200)))
    load(str(tmp_path), seed=0, checked=known, **options)
    assert len(decoded) == 17
    path.write_bytes(encoded(gray(200))[:40])
    if how == "check":
        with pytest.raises(UsageError, match=r"012\.png: cannot be read as an image"):
            load(str(tmp_path), seed=0, checked=known, **options)
    for _ in range(2):
        skipped = load(str(tmp_path), seed=0, on_bad_image="skip", checked=known, **OPTIONS)
        assert skipped.notes == (f"1 image that cannot be read left out: {path}",)
    # of which PIL does not even know the format
    assert len(decoded) == 17


@pytest.mark.parametrize("text", ["no", "00 ok", "00" * 16, "00" * 16 + " "])
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="line 1 is not the hash of an image"):
        Checked.parse(text)
