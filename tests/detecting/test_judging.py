"""Verdicts on files: each image has one, or one line that says why not."""

from pathlib import Path

import numpy as np
import pytest

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
