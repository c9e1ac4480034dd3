"""Verdicts on files: each image has one, or one line that says why not."""

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fxtransport.detecting.judging import judge_files
from fxtransport.errors import UsageError
from tests.detecting.small import detector, new_images, write_pictures


def test_verdicts_are_those_of_the_pixels(tmp_path: Path) -> None:
    given = new_images()
    paths = write_pictures(tmp_path, given.images)
    found = list(judge_files(detector(), [tmp_path], "one-class", fpr=0.2))
    expected = detector().score(given.images, "one-class", fpr=0.2)
    assert [each.image for each in found] == list(map(str, paths))
    assert [each.verdict for each in found] == expected.words
    assert [each.predicted for each in found] == expected.predicted_names
    assert np.allclose([each.p_value for each in found], expected.p_values)
    assert {"clean", "suspicious"} == {each.verdict for each in found}


def test_a_verdict_is_a_p_value_of_at_most_the_rate(tmp_path: Path) -> None:
    write_pictures(tmp_path, new_images().images)
    for fpr in (0.01, 0.1, 0.5):
        for each in judge_files(detector(), [tmp_path], fpr=fpr):
            assert (each.verdict == "suspicious") == (each.p_value <= fpr)


def test_one_bad_image_does_not_stop_the_others(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, new_images().images[:5])
    paths[2].write_bytes(b"no image")
    found = list(judge_files(detector(), [tmp_path]))
    assert [bool(each.error) for each in found] == [False, False, True, False, False]
    assert not found[2].verdict
    alone = list(judge_files(detector(), [paths[0], paths[4]]))
    assert [alone[0], alone[1]] == [found[0], found[4]]


def test_what_is_wrong_with_the_question_is_said_before_files_are_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no detector 'energy' was fitted: there are transport"):
        list(judge_files(detector(), [tmp_path / "none"], "energy"))
    with pytest.raises(UsageError, match="needs 9999 clean images"):
        list(judge_files(detector(), [tmp_path / "none"], fpr=1e-4))


def test_a_thousand_damaged_pictures_get_a_verdict_or_one_line(tmp_path: Path) -> None:
    """Two hundred of each of five formats."""
    image = Image.fromarray((np.random.default_rng(0).random((24, 24)) * 255).astype(np.uint8))
    generator = random.Random(0)
    refused = 0
    for suffix in ("png", "jpg", "gif", "bmp", "tiff"):
        path = tmp_path / f"image.{suffix}"
        image.save(path)
        content = path.read_bytes()
        for _ in range(200):
            changed = bytearray(content)
            for _ in range(generator.choice([1, 3, 30])):
                changed[generator.randrange(len(changed))] = generator.randrange(256)
            path.write_bytes(bytes(changed[: generator.choice([len(changed), len(changed) // 2])]))
            [found] = judge_files(detector(), [path])
            assert "\n" not in found.error
            assert bool(found.error) != bool(found.verdict)
            assert found.error or (np.isfinite(found.score) and 0 < found.p_value <= 1)
            refused += bool(found.error)
    assert 300 < refused < 1000


def test_random_arrays_get_a_verdict_or_one_line(tmp_path: Path) -> None:
    """Of numbers of every size, a few of them no numbers."""
    generator = np.random.default_rng(0)
    scales = 10.0 ** generator.integers(-40, 38, (300, 1, 1, 1))
    rows = (generator.random((300, 1, 8, 8)) * np.minimum(scales, 3)).astype(np.float32)
    rows[::7, 0, 3, 3] = np.nan
    rows[1::7, 0, 3, 3] = -np.inf
    np.save(tmp_path / "rows.npy", rows)
    found = list(judge_files(detector(), [tmp_path / "rows.npy"]))
    good = np.isfinite(rows).all((1, 2, 3)) & (rows.max((1, 2, 3)) <= 1)
    assert [not each.error for each in found] == good.tolist()
    assert all(np.isfinite(each.score) for each in found if not each.error)
