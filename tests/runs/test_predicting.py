"""What the exits of a run say of images."""

import re

import pytest

from fxtransport.errors import UsageError
from fxtransport.runs.load import load_run
from fxtransport.runs.pictures import find_pictures
from fxtransport.runs.predicting import Tally, predict
from fxtransport.training import evaluate
from tests.runs.photos import moved, photo_run


def test_the_share_that_is_right_is_the_accuracy_that_was_measured() -> None:
    """On the validation split, whose files are asked for by their names."""
    run = load_run(photo_run(), changes={"data.root": str(moved())})
    assert run.data.validation is not None
    measured = evaluate(run.program, run.data.validation)
    samples = run.data.validation.samples  # type: ignore[attr-defined]
    images = samples.samples.images
    files = [images.name(index) for index in samples.indices]
    tally = Tally()
    paths = find_pictures(map(type(moved()), files))
    found = list(predict(run, paths, exits=(0, 1), batch_size=7, tally=tally))
    assert [each.image for each in found] == files
    for place, exit in enumerate(measured):
        names = [each.exits[place].top[0].name for each in found]
        right = sum(path.parent.name == name for path, name in zip(paths, names, strict=True))
        assert right / len(files) == exit.accuracy
        assert found[0].exits[place].exit == exit.part
    assert (tally.images, tally.refused) == (len(files), 0)
    assert 0 < tally.model_seconds <= tally.seconds
    assert re.fullmatch(r"\d+ images in [\d.]+ s: \d+/s, the model alone \d+/s", str(tally))


def test_probabilities_are_in_order_and_sum_to_one() -> None:
    [first, *_] = predict(load_run(photo_run()), find_pictures([moved()]), exits=(1,), topk=99)
    [said] = first.exits
    probabilities = [guess.probability for guess in said.top]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1)
    assert {guess.name for guess in said.top} == {path.name for path in moved().iterdir()}


def test_modes_and_gradients_are_as_they_were() -> None:
    import torch

    run = load_run(photo_run())
    run.program.train()
    for _ in predict(run, find_pictures([moved()]), exits=(0,), batch_size=8):
        assert torch.is_grad_enabled()
        assert run.program.training


@pytest.mark.parametrize("option", [{"topk": 0}, {"batch_size": 0}])
def test_numbers_out_of_range(option: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="is 1 or more, not 0"):
        next(predict(load_run(photo_run()), [], exits=(0,), **option))
