"""Of folders, people's images are read, and what else is there is counted and named."""

from pathlib import Path

import pytest

from fxtransport.data.folders import is_shown, look_into
from fxtransport.data.sets import Location, open_set
from tests.data.making import gray, write_folder


def test_hidden_folders_and_files_are_left_out_and_counted(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", {"ant": 3, "bee": 3, ".ipynb_checkpoints": 3, "@eaDir": 3})
    write_folder(tmp_path / "val", {"ant": 2, "bee": 2}, first_level=20)
    for name in ("ant/.hidden.png", "bee/._000.png", "bee/.DS_Store"):
        gray(99).save(tmp_path / "train" / name, "PNG")
    (tmp_path / "train/bee/.trash").mkdir()
    gray(99).save(tmp_path / "train/bee/.trash/000.png")
    found = open_set(str(tmp_path), Location())
    assert found.class_names == ("ant", "bee")
    assert len(found.train) == 6
    [note] = found.notes
    assert note.startswith("train: 6 hidden names left out: ")
    assert note.endswith(" and 3 more")


def test_a_hidden_folder_above_hides_nothing(tmp_path: Path) -> None:
    write_folder(tmp_path / ".cache" / "set", {"ant": 2, "bee": 2})
    assert len(open_set(str(tmp_path / ".cache" / "set"), Location()).train) == 4
    assert is_shown(str(tmp_path / ".cache/a/b.png"), tmp_path / ".cache")
    assert not is_shown(str(tmp_path / "a/.b/c.png"), tmp_path)


@pytest.mark.parametrize("kind", ["webp", "bmp", "tiff", "tif", "gif", "ppm", "JPG", "jfif"])
def test_every_format_is_found(tmp_path: Path, kind: str) -> None:
    write_folder(tmp_path, {"ant": 2})
    gray(200).save(tmp_path / "ant" / f"one.{kind}")
    found = open_set(str(tmp_path), Location()).train
    assert len(found) == 3
    image, _ = found[2]
    assert abs(image.convert("L").getpixel((4, 4)) - 200) < 3  # type: ignore[operator]


def test_files_of_other_kinds_are_counted_and_each_kind_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, {"ant": 2, "bee": 2})
    for name in (*(f"ant/{i}.txt" for i in range(9)), "bee/photo.heic", "bee/data.npy", "README"):
        (tmp_path / name).write_text("")
    (tmp_path / "cat").mkdir()
    notes = open_set(str(tmp_path), Location()).notes
    assert notes == (
        f"{tmp_path.name}: 12 files of kinds that are not read left out: ant/0.txt, README, "
        "bee/data.npy and 9 more",
        f"{tmp_path.name}: 1 folder without images left out: cat",
    )


def test_a_link_to_a_class_is_followed(tmp_path: Path) -> None:
    write_folder(tmp_path / "elsewhere", {"ant": 2})
    write_folder(tmp_path / "set", {"bee": 2})
    (tmp_path / "set/ant").symlink_to(tmp_path / "elsewhere/ant")
    assert len(open_set(str(tmp_path / "set"), Location()).train) == 4
    assert look_into(tmp_path / "set").loose == ()


def test_kinds_that_are_asked_for_are_the_only_ones(tmp_path: Path) -> None:
    write_folder(tmp_path, {"ant": 2})
    gray(5).save(tmp_path / "ant" / "one.bmp")
    location = Location(options={"input_key": ".bmp"})
    found = open_set(str(tmp_path), location)
    assert len(found.train) == 1
    assert "2 files of kinds that are not read left out" in found.notes[0]


def test_a_class_map_of_the_user_is_kept(tmp_path: Path) -> None:
    write_folder(tmp_path, {"ant": 2, "bee": 2, ".x": 1})
    (tmp_path / "classes.txt").write_text("bee\nant\n")
    found = open_set(str(tmp_path), Location(options={"class_map": "classes.txt"}))
    assert found.class_names == ("bee", "ant")
    assert len(found.train) == 4
