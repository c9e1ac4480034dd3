from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fxtransport.detection.conditional import Rule
from fxtransport.detection.detector import Detector
from fxtransport.detection.forest import (
    CombinedForest,
    ForestDetector,
    LogitsForest,
    TransportForest,
)
from fxtransport.errors import UsageError
from tests.detection.detectors import FORESTS, fitted, parts

FLOORS = {
    "transport": 0.8,
    "logits": 0.9,
    "laplacian": 0.95,
    "nss": 0.85,
    "lid": 0.6,
    "combined": 0.95,
}


def auroc(detector: Detector) -> float:
    _, other = parts()
    scores = [detector.score(other.clean), detector.score(other.attacked)]
    labels = np.repeat([0, 1], [len(each) for each in scores])
    return float(roc_auc_score(labels, np.concatenate(scores)))


@pytest.mark.parametrize("kind", FORESTS, ids=lambda kind: kind.name)
def test_attacked_digits_are_found(kind: type[Detector]) -> None:
    assert auroc(fitted(kind)) > FLOORS[kind.name]


@pytest.mark.parametrize("kind", FORESTS, ids=lambda kind: kind.name)
def test_a_saved_forest_is_small_and_the_same(kind: type[Detector], tmp_path: Path) -> None:
    made, few = fitted(kind), parts()[1].attacked
    made.save(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 3e6
    again = kind.load(tmp_path)
    assert (again.score(few) == made.score(few)).all()
    assert (again.p_value(few) == made.p_value(few)).all()
    assert isinstance(again, ForestDetector)
    assert isinstance(made, ForestDetector)
    assert again.validation == made.validation
    assert again.choice == made.choice


def test_what_transport_adds_is_measured() -> None:
    """The combination is compared with each of its parts, and the best is chosen."""
    made = fitted(CombinedForest)
    assert isinstance(made, CombinedForest)
    compared = {name: value for name, value in made.validation.items() if "leaves" not in name}
    assert set(compared) == {
        "transport", "logits", "laplacian", "transport+logits", "transport+laplacian",
        "logits+laplacian", "transport+logits+laplacian",
    }  # fmt: skip
    assert compared[made.choice] > max(compared.values()) - 0.01
    gain = max(v for n, v in compared.items() if "transport" in n) - max(
        compared[name] for name in ("logits", "laplacian", "logits+laplacian")
    )
    assert made.transport_gain == gain
    with pytest.raises(UsageError, match="combined was not fitted"):
        _ = CombinedForest().transport_gain


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ({"logits": 0.9, "laplacian": 0.999, "transport+laplacian": 0.99}, "transport+laplacian"),
        ({"logits": 0.9, "laplacian": 0.999, "transport+laplacian": 0.98}, "laplacian"),
        ({"logits+laplacian": 0.9, "transport+logits": 0.905, "logits": 0.91}, "transport+logits"),
    ],
)
def test_of_equals_the_combination_of_most_arrays_is_taken(
    figures: dict[str, float], expected: str
) -> None:
    assert CombinedForest()._preferred(figures) == expected


def test_either_is_the_larger_of_two_scores() -> None:
    first, other = parts()
    scores = {}
    rules: list[Rule] = ["general", "class", "either"]
    for rule in rules:
        made = TransportForest(rule).fit(first.clean, first.attacked)
        scores[rule] = made.score(other.attacked)
        assert made.forest.rule == rule
    assert (scores["either"] == np.maximum(scores["general"], scores["class"])).all()
    assert (scores["general"] != scores["class"]).any()


def test_without_predicted_classes_the_forest_is_general() -> None:
    first, other = parts()
    made = TransportForest().fit(first.clean["transport"], first.attacked["transport"])
    assert made.forest.rule == "general"
    assert made.forest.by_class == {}
    assert len(made.score(other.clean["transport"])) == len(other.clean)
    with pytest.raises(UsageError, match="need the predicted classes, or observations with logits"):
        TransportForest("either").fit(first.clean["transport"], first.attacked["transport"])


def test_predicted_classes_may_be_given() -> None:
    first, other = parts()
    classes = np.concatenate([first.clean.predicted, first.attacked.predicted])
    bare = TransportForest().fit(first.clean["transport"], first.attacked["transport"], classes)
    assert bare.forest.rule == "either"
    assert bare.forest.by_class
    found = bare.score(other.clean["transport"], other.clean.predicted)
    assert found.shape == (len(other.clean),)
    with pytest.raises(UsageError, match="give the predicted classes"):
        bare.score(other.clean["transport"])


def test_logits_are_sorted() -> None:
    """The order of the classes does not matter to this baseline."""
    made, other = LogitsForest("general"), parts()[1]
    made.fit(parts()[0].clean["logits"], parts()[0].attacked["logits"])
    logits = other.clean["logits"]
    shuffled = np.random.default_rng(0).permuted(logits, axis=1)
    assert (made.score(shuffled) == made.score(logits)).all()


def test_seeds_repeat() -> None:
    first, other = parts()
    scores = [
        TransportForest(seed=seed).fit(first.clean, first.attacked).score(other.clean)
        for seed in (1, 1, 2)
    ]
    assert (scores[0] == scores[1]).all()
    assert (scores[0] != scores[2]).any()


def test_speed_one_by_one() -> None:
    """Some hundred microseconds an image, all checks included; a third of that is the forests."""
    from tests.detection.test_trees import seconds

    made, other = fitted(TransportForest), parts()[1]
    one = other.clean.take([0])
    made.score(one)
    assert min(seconds(lambda: made.score(one)) for _ in range(50)) < 1 / 1_250


def test_what_is_refused() -> None:
    first, other = parts()
    with pytest.raises(UsageError, match="rule is one of general, class, either"):
        TransportForest("both")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="transport is fitted on clean and attacked images"):
        TransportForest().fit(first.clean)
    with pytest.raises(UsageError, match="transport was not fitted"):
        TransportForest().score(other.clean)
    with pytest.raises(UsageError, match="clean images has 8 columns, of attacked ones 6"):
        TransportForest().fit(first.clean["transport"], first.attacked["transport"][:, :6])
    with pytest.raises(UsageError, match="reads rows of 8 features"):
        fitted(TransportForest).score(other.clean["transport"][:, :6], other.clean.predicted)
    with pytest.raises(UsageError, match=r"too few|at least"):
        TransportForest().fit(first.clean, first.attacked.take([0, 1]))
