"""Layers that are recovered from the deepest one: errors by hand, ranks, and what is found."""

import numpy as np
import pytest
from scipy.stats import norm

from fxtransport.detection import Observations
from fxtransport.detection.inconsistency import LayerInconsistency, recovery_test
from fxtransport.errors import UsageError


def layers(count: int, seed: int) -> dict[str, np.ndarray]:
    """Two layers that the third determines, up to a little noise, and a number by itself."""
    drawn = np.random.default_rng(seed)
    deepest = drawn.normal(size=(count, 6))
    mixed = deepest @ np.random.default_rng(99).normal(size=(6, 9))
    arrays = {
        "layer.0": mixed[:, :4] + 0.05 * drawn.normal(size=(count, 4)),
        "layer.1": 10 * np.abs(mixed[:, 4:]) + 0.5 * drawn.normal(size=(count, 5)),
        "layer.2": deepest,
        "stability": drawn.normal(size=(count, 1)),
    }
    return {name: rows.astype(np.float32) for name, rows in arrays.items()}


CLEAN = Observations(layers(400, 0))


def changed(count: int, seed: int, name: str, by: float) -> Observations:
    values = layers(count, seed)
    return Observations({**values, name: values[name] + np.float32(by)})


def test_the_recovery_test_by_hand() -> None:
    even, uneven = recovery_test(np.array([[1.0, 1.0], [0.0, 2.0]]))
    assert even == pytest.approx(np.log(2))
    share = 1 / (1 + np.exp(-2))
    entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
    assert uneven == pytest.approx(np.log(2) * (1 + np.log(2) - entropy))
    assert recovery_test(np.array([[3.0]])) == pytest.approx(np.log(4))
    assert np.isfinite(recovery_test(np.array([[0.0, 1e6, 5.0]]))).all()


def test_scores_are_squared_normal_quantiles_of_both_tests() -> None:
    detector = LayerInconsistency().fit(CLEAN, held_out=0)
    arrays, settings = detector.state()
    assert settings == {"layers": 2}
    others = Observations(layers(7, 5))
    tests = [recovery_test(detector.errors(others)), others["stability"][:, 0].astype(float)]
    expected = np.zeros(7)
    for test, known in zip(tests, arrays["reference"], strict=True):
        ranks = [(known < value).sum() + 0.5 for value in test]
        expected += norm.ppf(np.array(ranks) / (len(known) + 1)) ** 2
    np.testing.assert_allclose(detector.score(others), expected)


def test_errors_are_in_units_of_the_deviation() -> None:
    """What leaves one layer alone shows there, by as much; the other is recovered as before."""
    detector = LayerInconsistency().fit(CLEAN)
    before = detector.errors(changed(200, 3, "layer.0", 0.0))
    assert before.shape == (200, 2)
    assert before.mean() < 0.2
    shift = 20.0
    after = detector.errors(changed(200, 3, "layer.1", shift))
    np.testing.assert_array_equal(after[:, 0], before[:, 0])
    scale = detector.state()[0]["layer.1.scale"]
    expected = np.mean((shift / scale) ** 2)
    assert (after[:, 1] - before[:, 1]).mean() == pytest.approx(expected, rel=0.05)


def test_ranks_are_those_of_images_that_were_left_out() -> None:
    """Reference errors are no smaller than those of new images, as fitted ones would be."""
    detector = LayerInconsistency().fit(CLEAN.take(range(60)), held_out=0)
    new = recovery_test(detector.errors(Observations(layers(2000, 8))))
    fitted = recovery_test(detector.errors(CLEAN.take(range(60))))
    reference = detector.state()[0]["reference"][0]
    assert fitted.mean() < 0.9 * new.mean()
    assert reference.mean() == pytest.approx(new.mean(), rel=0.25)


@pytest.mark.parametrize(("name", "by"), [("layer.0", 3.0), ("layer.1", 30.0), ("stability", 9.0)])
def test_what_does_not_go_together_is_flagged(name: str, by: float) -> None:
    detector = LayerInconsistency().fit(CLEAN)
    flags = detector.predict(changed(200, 3, name, by), fpr=0.1)
    assert flags.mean() > 0.6
    assert detector.predict(changed(400, 4, name, 0.0), fpr=0.1).mean() < 0.2


def test_what_it_cannot_be_fitted_on_is_refused() -> None:
    with pytest.raises(UsageError, match="needs 20 clean images beside"):
        LayerInconsistency().fit(CLEAN.take(range(20)))
    one = Observations({"layer.0": CLEAN["layer.0"], "stability": CLEAN["stability"]})
    with pytest.raises(UsageError, match="recovers layers from the deepest; there is only one"):
        LayerInconsistency().fit(one)
    without = {k: v for k, v in CLEAN.values.items() if k != "stability"}
    with pytest.raises(UsageError, match="hold no 'stability'"):
        LayerInconsistency().fit(Observations(without))


def test_columns_that_never_vary_are_no_harm() -> None:
    values = {**CLEAN.values, "layer.0": np.ones((400, 4), np.float32)}
    detector = LayerInconsistency().fit(Observations(values))
    assert detector.score(Observations(values)).shape == (400,)


def test_a_damaged_state_is_refused() -> None:
    arrays, settings = LayerInconsistency().fit(CLEAN).state()
    for name, wrong in (
        ("layer.1.scale", 0 * arrays["layer.1.scale"]),
        ("scale", -arrays["scale"]),
        ("reference", arrays["reference"][:, ::-1].copy()),
        ("reference", arrays["reference"][:, :0]),
    ):
        with pytest.raises(UsageError, match=f"the array '{name}' is "):
            LayerInconsistency.from_state({**arrays, name: wrong}, dict(settings))
