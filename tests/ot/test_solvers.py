"""Solvers: each finds an optimum, the choice between them, and what happens when one fails."""

import sys
from types import ModuleType

import numpy as np
import ot as pot
import pytest
import torch

from fxtransport import ot
from fxtransport.errors import SolverError, UsageError
from fxtransport.ot import assignment, simplex, solvers
from tests.ot.exact import SORTS, activations, costs, exact_cost, pair_of

SQUARE = [sort for sort in SORTS if len({len(side) for side in pair_of(sort)}) == 1]


@pytest.fixture
def _without_lapx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assignment, "has_lapx", lambda: False)


@pytest.mark.parametrize("solver", solvers.SOLVERS)
@pytest.mark.parametrize("sort", SQUARE)
@pytest.mark.filterwarnings("ignore::fxtransport.ot.TransportWarning")
def test_assignments(sort: str, solver: str) -> None:
    pair = pair_of(sort)
    matrix = costs(*pair).numpy()
    columns = solvers.assignment(matrix, solver)
    assert sorted(columns) == list(range(len(matrix)))
    found = matrix[np.arange(len(matrix)), columns].mean()
    assert found == pytest.approx(exact_cost(*pair), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("solver", ["auto", "pruned", "emd"])
@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.filterwarnings("ignore::fxtransport.ot.TransportWarning")
def test_couplings_with_weights(sort: str, solver: str) -> None:
    matrix = costs(*pair_of(sort)).numpy()
    generator = np.random.default_rng(0)
    a, b = (generator.random(n) for n in matrix.shape)
    a[2] = b[::5] = 0
    a, b = a / a.sum(), b / b.sum()
    rows, columns, mass = solvers.coupling(matrix, a, b, solver)
    np.testing.assert_allclose(np.bincount(rows, mass, len(a)), a, atol=1e-12)
    np.testing.assert_allclose(np.bincount(columns, mass, len(b)), b, atol=1e-12)
    assert len(mass) <= len(a) + len(b) - 1
    expected = pot.emd2(a, b, matrix, numItermax=10_000_000)
    assert (mass * matrix[rows, columns]).sum() == pytest.approx(expected, rel=1e-9)


def test_the_choice_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "fxtransport.ot"):
        for _ in range(3):
            ot.plan(*pair_of("unrelated"))
            ot.plan(*pair_of("narrow"))
    said = [
        "lapx solves assignments of d < 1024 on cpu",
        "emd solves plans of d ≠ d', small on cpu",
    ]
    assert caplog.messages == said
    assert ot.choices() == sorted(said)


@pytest.mark.usefixtures("_without_lapx")
def test_the_choice_without_lapx(monkeypatch: pytest.MonkeyPatch) -> None:
    """By width, and by how far two networks are from one another."""
    monkeypatch.setattr(solvers, "_PRUNED_ASSIGNMENT", 280)
    small = [costs(*pair_of(sort)) for sort in ("unrelated", "near")]
    near = activations(280, 32)
    generator = torch.Generator().manual_seed(0)
    changed = near * (1 + 0.01 * torch.randn(near.shape, generator=generator))
    large = [costs(near, activations(280, 32, seed=1)), costs(near, changed)]
    assert [solvers._for_assignment(m) for m in (*small, *large)] == [
        "scipy",
        "scipy",
        "pruned",
        "scipy",
    ]


def test_lap_is_not_lapx(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package ``lap`` installs the same module, without the solver."""
    assignment.has_lapx.cache_clear()
    monkeypatch.setitem(sys.modules, "lap", ModuleType("lap"))
    try:
        assert not assignment.has_lapx()
        with pytest.raises(UsageError, match="lapx is not installed; pip install lapx"):
            ot.plan(*pair_of("near"), solver="lapx")
        ot.plan(*pair_of("unrelated"))
        assert ot.choices() == ["scipy solves assignments of d < 1024 on cpu"]
    finally:
        assignment.has_lapx.cache_clear()


def test_a_missing_lapx(monkeypatch: pytest.MonkeyPatch) -> None:
    assignment.has_lapx.cache_clear()
    monkeypatch.setitem(sys.modules, "lap", None)
    try:
        assert not assignment.has_lapx()
    finally:
        assignment.has_lapx.cache_clear()


def test_a_solver_that_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error for the dense solver; pruning then leaves the problem to it."""
    pair = pair_of("narrow")
    monkeypatch.setattr(simplex, "ITERATIONS", 3)
    with pytest.raises(SolverError, match="gave up on costs of 7×40: numItermax reached"):
        ot.plan(*pair, solver="emd")
    with (
        pytest.warns(ot.TransportWarning, match="pruning found no exact plan"),
        pytest.raises(SolverError, match="gave up"),
    ):
        ot.plan(*pair, solver="pruned")


def test_pruning_that_fails_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = pair_of("large")
    monkeypatch.setattr(solvers, "by_pruning", lambda *_: None)
    with pytest.warns(ot.TransportWarning, match="the dense network simplex solves instead"):
        found = ot.omega(student, teacher)
    assert float(found) == pytest.approx(exact_cost(student, teacher), rel=1e-6)
    ot.omega(student, teacher)
    assert ot.counts() == {"unpruned": 2}


def test_wrong_answers_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of solvers that return what is no plan."""
    monkeypatch.setattr(assignment, "by_lapx", lambda costs: np.zeros(len(costs), np.int64))
    with pytest.raises(SolverError, match="lapx returned no permutation for costs of 40×40"):
        ot.plan(*pair_of("unrelated"))

    def half(*_: object) -> simplex.Vertex:
        plan = simplex.Coupling(np.zeros(1, np.int64), np.zeros(1, np.int64), np.full(1, 0.5))
        return simplex.Vertex(plan, np.zeros(7), np.zeros(40), "")

    monkeypatch.setattr(solvers, "network_simplex", half)
    with pytest.raises(SolverError, match="7×40 by emd misses its weights"):
        ot.plan(*pair_of("narrow"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_costs_that_are_not_finite(value: float) -> None:
    matrix = np.ones((3, 3))
    matrix[1, 2] = value
    for solve in (solvers.assignment, solvers.coupling):
        with pytest.raises(SolverError, match="1 costs of 9 are not finite"):
            solve(matrix)


def test_arguments_that_do_not_fit() -> None:
    matrix = np.ones((3, 4))
    with pytest.raises(UsageError, match="as many rows as columns, not 3×4"):
        solvers.assignment(matrix)
    with pytest.raises(UsageError, match="real matrix that is not empty"):
        solvers.coupling(np.ones(3))
    with pytest.raises(UsageError, match="a must hold 3 weights"):
        solvers.coupling(matrix, a=np.ones(4))
    with pytest.raises(UsageError, match="b must hold 4 weights"):
        solvers.coupling(matrix, b=[1, 1, -1, 1])
    with pytest.raises(UsageError, match="divide each by its sum"):
        solvers.coupling(matrix, a=[1, 1, 1])
    with pytest.raises(UsageError, match="scipy solves d = d' with equal weights"):
        solvers.coupling(matrix, solver="scipy")


def test_integers_and_lists_are_costs() -> None:
    assert solvers.assignment([[2, 1], [0, 2]]).tolist() == [1, 0]
