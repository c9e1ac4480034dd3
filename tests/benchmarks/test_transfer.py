"""The benchmark of transfer: its cells, its choice of weights, and one training of each start."""

from pathlib import Path

import common
import pytest
import torch
import transfer
from rich.console import Console
from transfer_nets import NETS, Net, Plan, Schooling, Task, splits, train

TINY = Net(8, 4)


def plan(regularizer: str, start: str, taught: str = "parity") -> Plan:
    task, other = Task("digits", "all"), Task("digits", taught)
    layers = (("blocks.1", "blocks.1"), ("penultimate", "penultimate"))
    how = Schooling(0.02, 1, 32)
    return Plan(task, other, TINY, TINY, regularizer, layers, start, 64, how, 0, "test")


@pytest.mark.parametrize(
    ("regularizer", "start"), [("none", "scratch"), ("ot:0.1", "teacher"), ("uniform:1.0", "light")]
)
def test_a_student_trains_from_every_start(regularizer: str, start: str) -> None:
    found = train(plan(regularizer, start), teacher_epochs=1)
    assert 0 < found < 100
    assert train(plan(regularizer, start), teacher_epochs=1) == found


def test_tasks_have_the_classes_that_they_say() -> None:
    given = splits("digits", 0)
    for name in ("all", "parity", "first", "second"):
        task = Task("digits", name)
        for part in given.of(task, few=50):
            assert part.targets.unique().tolist() == list(range(task.classes))
    assert len(given.of(Task("digits", "all"), few=50).train) == 50
    parity = given.of(Task("digits", "parity")).test
    assert torch.equal(parity.targets, given.test.targets % 2)


def test_columns_are_those_of_the_tables() -> None:
    found = [*transfer.columns()]
    assert len({column.key for column in found}) == len(found) == 3 + 6 + 6 + 5
    assert {column.other for column in found if column.table == "2"} == {NETS["L"]}
    for column in found:
        assert {*column.methods} <= {*transfer.NAMES}
        assert {*column.methods} == {*transfer.PUBLISHED[column.table]}


def test_weights_are_chosen_by_validation_and_cells_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setattr(transfer, "RESULTS", tmp_path)
    calls = []

    def work(cell: transfer.Cell) -> tuple[float, float]:
        calls.append(cell.key)
        return (90.0 if cell.plan.regularizer == "ot:0.01" else 50.0), 1.0

    monkeypatch.setattr(transfer, "work", work)
    [column, *_] = transfer.columns()
    column = column._replace(methods=("none", "ot"))
    cells = transfer.Cells(True, 0, 1, 1)
    found = transfer.measure(cells, column, column, range(2), range(1000, 1001))
    assert found == {"none": (0.0, [50.0, 50.0]), "ot": (0.01, [90.0, 90.0])}
    assert len(calls) == 5 + 4
    again = transfer.Cells(True, 0, 1, 1)
    assert transfer.measure(again, column, column, range(2), range(1000, 1001)) == found
    assert len(calls) == 5 + 4
    console = Console(width=120)
    with console.capture() as captured:
        console.print(transfer.table_of("1", {"digits": found}))
    text = captured.get()
    assert "Ω_P" in text
    assert "90.0 ± 0.0 (0.01)" in text
    assert "84.7" in text
