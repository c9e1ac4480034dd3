"""Other data by name, near and far."""

import pytest

from fxtransport.detecting.other_data import load_others, parse_others
from fxtransport.errors import UsageError
from tests.detecting.small import detector


def test_images_are_prepared_for_the_model() -> None:
    found = load_others(detector(), ["near=mnist5k", "patches"], most=7)
    assert {name: other.distance for name, other in found.items()} == {
        "mnist5k": "near",
        "patches": None,
    }
    for other in found.values():
        assert other.images.images.shape == (7, 1, 8, 8)
        assert 0 <= other.images.images.min() < other.images.images.max() <= 1


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["near="], "write other data as NAME, near=NAME or far=NAME, not 'near='"),
        ([""], "write other data as"),
        (["near=a", "far=a"], "the other data a is named twice"),
        (["a", "a"], "the other data a is named twice"),
    ],
)
def test_texts_that_are_refused(texts: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_others(texts)
