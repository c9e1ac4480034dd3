"""Where splits come from is said in words, and as a table."""

import pytest

from fxtransport.data import load
from fxtransport.data.sources import SplitSource, find_sources


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (SplitSource("from the set", 3, 2), "3 samples of 2 classes, from the set"),
        (SplitSource("from the set", 3, 1), "3 samples of 1 class, from the set"),
        (SplitSource("from the set", 3, None), "3 samples, from the set"),
        (SplitSource("because none is held out", 0, 0), "none, because none is held out"),
    ],
)
def test_a_source_in_words(source: SplitSource, text: str) -> None:
    assert str(source) == text


def test_what_is_held_out_and_what_is_limited() -> None:
    splits = {"train": [0, 1], "validation": None, "test": [0, 0]}
    shares = {"validation": 0.1, "test": 0.25}
    found = find_sources({"train": "the set"}, splits, shares, train_samples=2, by_content=True)
    assert {split: source.table() for split, source in found.items()} == {
        "train": {
            "origin": "from the set, without what is held out, limited to 2",
            "samples": 2,
            "classes": 2,
        },
        "validation": {"origin": "because none is held out", "samples": 0, "classes": 0},
        "test": {
            "origin": "held out of the set, a share of 0.25 by their content",
            "samples": 2,
            "classes": 1,
        },
    }


@pytest.mark.parametrize("name", ["digits", "circles"])
def test_sets_that_need_no_files_say_it_too(name: str) -> None:
    splits = load(name, seed=0, batch_size=8, validation=0)
    assert splits.validation is None
    assert str(splits.sources["validation"]) == "none, because none is held out"
    assert splits.sources["train"].samples == splits.train.num_samples
    assert splits.sources["test"].classes == splits.num_classes
