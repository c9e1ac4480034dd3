"""Who beats whom: differences within a network, by hand."""

from typing import Any

import detection_answers
import pytest


def cell(name: str, how: str, seed: int, **areas: float) -> dict[str, Any]:
    rows = [
        {"protocol": "seen", "tested_on": attack, "metrics": {"auroc": area}}
        for attack, area in areas.items()
    ]
    rows.append({"protocol": "seen", "tested_on": "bim", "metrics": {}})
    rows.append({"protocol": "near", "tested_on": "digits", "metrics": {"auroc": 0.0}})
    return {"name": name, "how": how, "seed": seed, "rows": rows}


CELLS = [
    cell("transport", "VAN", 0, fgm=0.9, cw=0.8),
    cell("transport", "VAN", 1, fgm=0.9, cw=0.7),
    cell("nss", "VAN", 0, fgm=0.6, cw=0.6),
    cell("nss", "VAN", 1, fgm=0.6),
    cell("transport", "LAP", 0, fgm=0.9, cw=0.9),
    cell("transport", "LAP", 1, fgm=0.8, cw=0.7),
]


def test_differences_are_of_the_same_attacks_on_the_same_network() -> None:
    (title, columns, lines), (_, trained, helped) = detection_answers.answers(CELLS)
    assert title.startswith("Do transport features beat")
    assert columns == ["VAN", "LAP"]
    # 25 and 30 points
    assert lines == [["transport − nss, seen", "+27.5 ± 31.8: open", "–"]]
    assert trained == ["LAP − VAN"]
    # 5 and -5 points
    assert helped == [["transport, seen", "+0.0 ± 63.5: open"]]


@pytest.mark.parametrize(
    ("values", "text"),
    [([], "–"), ([2.0], "+2.0"), ([2.0, 2.0], "+2.0 ± 0.0: yes"), ([-1.0, -1.0], "-1.0 ± 0.0: no")],
)
def test_answers_are_intervals_without_zero(values: list[float], text: str) -> None:
    assert detection_answers._answer(values) == text


def test_what_learns_of_clean_images_is_compared_there() -> None:
    found = [cell("one-class", "VAN", 0, fgm=0.9), cell("energy", "VAN", 0, fgm=0.8)]
    assert list(detection_answers.answers(found)) == []
    for one in found:
        one["rows"][0]["protocol"] = "clean only"
    [(_, _, lines)] = detection_answers.answers(found)
    assert lines == [["one-class − energy, clean only", "+10.0"]]


def test_nothing_is_answered_of_nothing() -> None:
    assert list(detection_answers.answers([])) == []
    assert list(detection_answers.answers([cell("energy", "VAN", 0, fgm=1.0)])) == []
