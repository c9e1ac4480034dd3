"""Taps: residues keep their values whatever the model overwrites, and change nothing."""

import copy
import operator
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fxtransport.compiler import transportify
from fxtransport.errors import TraceError
from fxtransport.ir import Layers, Residuals, Taps
from fxtransport.lowered import Lowered
from fxtransport.passes.lower import Lower
from fxtransport.passes.pipeline import run_passes
from fxtransport.passes.taps import TapResidues
from fxtransport.passes.trace import Trace
from fxtransport.residue import Residue
from fxtransport.runtime import add_out_of_place
from fxtransport.unit import Unit
from tests.compiling import (
    assert_identical,
    compiled,
    forward,
    original,
    outcome,
    transport,
    unit_of,
)


class Writing(nn.Module):
    """A residual block that goes on with its branch, its skip and its sum as it is told."""

    def __init__(self, go_on: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.go_on = go_on
        self.body = nn.Sequential(nn.Linear(6, 6), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        x = x * 1  # so that the block may overwrite it
        return self.go_on(x, self.body(x))

    def branch(self, x: Tensor) -> Tensor:
        return self.body(x)


def added_in_place(x: Tensor, branch: Tensor) -> Tensor:
    branch += x
    return branch


def added_by_method(x: Tensor, branch: Tensor) -> Tensor:
    return branch.add_(x)


def added_then_activated(x: Tensor, branch: Tensor) -> Tensor:
    branch += x
    return branch.relu_()


def added_onto_skip(x: Tensor, branch: Tensor) -> Tensor:
    x += branch
    return x.relu_()


def branch_written_later(x: Tensor, branch: Tensor) -> Tensor:
    total = x + branch
    branch.mul_(3)
    return total


def branch_read_under_its_old_name(x: Tensor, branch: Tensor) -> Tensor:
    alias = branch
    branch += x
    return branch * 2 + alias.sigmoid()


def view_of_branch_read_later(x: Tensor, branch: Tensor) -> Tensor:
    half = branch[:, :3]
    branch += x
    return branch * half.sum()


def branch_written_through_a_view(x: Tensor, branch: Tensor) -> Tensor:
    total = x + branch
    branch[:, :3] *= 2
    return total.tanh() * branch.sum()


def branch_added_with_alpha(x: Tensor, branch: Tensor) -> Tensor:
    return branch.add_(x, alpha=2)


def skip_written_later(x: Tensor, branch: Tensor) -> Tensor:
    total = x + branch
    x.zero_()
    return total


def sum_written_through_a_view(x: Tensor, branch: Tensor) -> Tensor:
    branch += x
    branch.view(-1).mul_(2)
    return branch


OUT_OF_PLACE = [added_in_place, added_by_method, added_then_activated, added_onto_skip]
COPIED = [branch_written_later, branch_written_through_a_view]
AS_THEY_ARE = [
    branch_read_under_its_old_name,
    view_of_branch_read_later,
    skip_written_later,
    sum_written_through_a_view,
]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("go_on", [*OUT_OF_PLACE, *COPIED, *AS_THEY_ARE])
def test_residues_are_the_branches(
    go_on: Callable[[Tensor, Tensor], Tensor], training: bool
) -> None:
    model = Writing(go_on)
    unit = compiled(model, 6)
    assert [r.path for r in unit.fact(Residuals).tapped] == [""]
    x = torch.randn(3, 6)
    (output, residues), _ = outcome(transport(unit), model, x, training=training)
    assert_identical(output, outcome(original, model, x, training=training)[0])
    assert_identical(outcome(forward(unit), model, x, training=training)[0], output)
    by_hand, _ = outcome(Writing.branch, model, x, training=training)
    assert_identical(residues, [by_hand])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("go_on", [*OUT_OF_PLACE, *COPIED, *AS_THEY_ARE])
def test_costs_are_given_the_values_of_the_block(
    go_on: Callable[[Tensor, Tensor], Tensor], training: bool
) -> None:
    """Whatever the model overwrites, when the cost is asked and until backward is over."""
    model = Writing(go_on).train(training)
    model.body.append(nn.Linear(6, 6))  # which does not need its output in backward
    unit = compiled(model, 6)
    given: list[Residue] = []

    def cost(residue: Residue) -> Tensor:
        given.append(residue)
        return (residue.branch * residue.skip * residue.output).sum()

    x = torch.randn(3, 6)
    returned, costs = unit.fact(Lowered).whole.function.call(model, x.clone(), cost)
    branch = model.body(x)
    total = branch + 2 * x if go_on is branch_added_with_alpha else x + branch
    output = total.relu() if go_on in (added_then_activated, added_onto_skip) else total
    if go_on is branch_written_through_a_view:
        output = total.tanh()
    assert_identical([given[0].branch, given[0].skip, given[0].output], [branch, x, output])
    assert_identical(returned, model(x))
    if go_on is skip_written_later:
        return  # the model itself overwrites what its first layer needs
    costs[0].backward()
    expected = torch.autograd.grad((branch * x * output).sum(), list(model.parameters()))
    torch.testing.assert_close([p.grad for p in model.parameters()], list(expected))


def targets(unit: Unit) -> list[object]:
    return [node.target for node in unit.traced().nodes]


@pytest.mark.parametrize("go_on", OUT_OF_PLACE)
def test_additions_in_place_become_out_of_place(go_on: Callable[..., Tensor]) -> None:
    unit = compiled(Writing(go_on), 6)
    assert add_out_of_place in targets(unit)
    assert not {operator.iadd, "add_"}.intersection(targets(unit))
    assert unit.fact(Taps).added == ()


@pytest.mark.parametrize("go_on", COPIED)
def test_branches_that_are_overwritten_are_copied_first(go_on: Callable[..., Tensor]) -> None:
    unit = compiled(Writing(go_on), 6)
    assert unit.fact(Taps).added == unit.fact(Taps).residues
    names = [node.name for node in unit.traced().nodes]
    body, copied = names.index("body"), names.index(unit.fact(Taps).residues[0])
    assert copied == body + 1
    # the forward without residues does not pay for it
    assert "clone" not in unit.fact(Lowered).forward.source
    assert "clone" not in unit.fact(Lowered).whole.function.source
    model, x = unit.model, torch.randn(3, 6)
    assert unit.fact(Lowered).whole.function.call(model, x, None)[1] == [None]
    assert "copied" in unit.fact(Lowered).whole.function.source


def test_an_added_tensor_keeps_its_dtype() -> None:
    """``half += single`` stays half, ``half + single`` does not."""
    branch, other = torch.randn(5, dtype=torch.float16), torch.randn(5)
    expected = branch.clone()
    expected += other
    found = add_out_of_place(branch, other)
    assert found.dtype == torch.float16
    assert_identical(found, expected)


class Mixed(nn.Module):
    """A residual block whose branch is computed in another dtype than its input."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 6), nn.Tanh()).double()

    def forward(self, x: Tensor) -> Tensor:
        out = x.float()
        out += self.body(x.double())
        return out * 2


def test_dtypes_are_kept_where_they_are_mixed() -> None:
    model = Mixed()
    unit = compiled(model, 6)
    x = torch.randn(3, 6)
    (output, residues), _ = outcome(transport(unit), model, x, training=True)
    assert output.dtype == torch.float32
    assert_identical(output, outcome(original, model, x, training=True)[0])
    assert_identical(residues, [model.body(x.double())])


class ReturnsSkip(nn.Module):
    """A residual block that returns more than its sum."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 6), nn.Tanh())

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        branch = self.body(x)
        return x + branch, {"branch": branch}


def test_what_a_model_returns_keeps_its_form() -> None:
    model = ReturnsSkip()
    unit = compiled(model, 6)
    x = torch.randn(3, 6)
    (output, residues), _ = outcome(transport(unit), model, x, training=False)
    assert_identical(output, model(x))
    assert_identical(residues, [output[1]["branch"]])


def test_displacements_of_layers() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(True), nn.Conv2d(4, 2, 1)
    )
    unit = compiled(model, 4, 8, 8)
    assert [layer.path for layer in unit.fact(Layers).found] == ["0"]
    x = torch.randn(3, 4, 8, 8)
    (_, residues), _ = outcome(transport(unit), model, x, training=True)
    assert_identical(residues, [model.train()[:3](x) - x])


def test_the_unit_before_is_not_changed() -> None:
    unit = run_passes(unit_of(Writing(added_in_place), 6), [Trace()])
    before = str(unit.traced())
    after = run_passes(unit, [TapResidues(), Lower()])
    assert str(unit.traced()) == before
    assert str(after.traced()) != before


@pytest.mark.parametrize("write", [added_in_place, added_then_activated])
def test_a_graph_that_is_tapped_is_not_tapped_again(
    write: Callable[[Tensor, Tensor], Tensor],
) -> None:
    model = nn.Sequential(Writing(write), Writing(write), nn.Linear(6, 3))
    tapped = run_passes(unit_of(model, 6), [TapResidues()])
    again = run_passes(tapped, [TapResidues(), Lower()])
    assert again.graph is tapped.graph
    assert again.fact(Lowered).text() == compiled(model, 6).fact(Lowered).text()


class AddsToItsInput(nn.Module):
    """In eval mode, dropout returns its input itself, to which the block then adds."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.linear = nn.Dropout(0.5), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(x)
        h += self.linear(h)
        return x + h


@pytest.mark.parametrize("training", [True, False])
def test_what_is_written_under_two_names_is_written(training: bool) -> None:
    model = nn.Sequential(nn.Linear(8, 8), AddsToItsInput(), nn.Linear(8, 3)).train(training)
    program = transportify(model, torch.zeros(2, 8), verify=False).train(training)
    x = torch.randn(4, 8)
    torch.manual_seed(0)
    expected = model(x)
    torch.manual_seed(0)
    assert torch.equal(program(x), expected)


class Keeps(nn.Module):
    """A residual block that keeps what it then adds to in place, or a view of it."""

    def __init__(self, view: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.linear, self.view, self.last = nn.Linear(6, 6), view, None

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        self.last = self.view(y)
        y += x
        return y


@pytest.mark.parametrize("view", [lambda y: y, lambda y: y[:, :2]])
def test_what_an_attribute_keeps_is_added_to_in_place(view: Callable[[Tensor], Tensor]) -> None:
    model = nn.Sequential(Keeps(view), Keeps(view), nn.Linear(6, 3))
    program, x = transportify(copy.deepcopy(model), torch.zeros(2, 6)), torch.randn(5, 6)
    output, expected = program.transport(x), model(x)
    assert_identical(output.output, expected)
    for block in (0, 1):
        assert_identical(program.get_submodule(str(block)).last, model[block].last)
    residue = model[0].linear(x)
    assert_identical(output.residues[0], residue)


@pytest.mark.parametrize(
    "go_on",
    [
        lambda x, y: (y.view(-1).relu_(), x + y)[1],
        lambda x, y: (y[:, 1:].zero_(), x + y, y.zero_())[1],
        lambda x, y: (y.mT.mul_(0.5), y.add_(x), y)[2],
    ],
)
def test_a_branch_that_was_written_by_another_name(
    go_on: Callable[[Tensor, Tensor], Tensor],
) -> None:
    """Its residue is what it was when it was added, and not when it was computed."""
    model = nn.Sequential(Writing(go_on), Writing(go_on), nn.Linear(6, 3)).eval()
    program = transportify(copy.deepcopy(model), torch.zeros(2, 6)).eval()
    x = torch.randn(5, 6)
    assert torch.equal(program(x), model(x))
    expected = (model[0](x.clone()) - x).detach()
    assert torch.allclose(program.transport(x).residues[0], expected, atol=1e-6)


class Widening(nn.Module):
    """A projection block that goes on with its input as it is told."""

    def __init__(self, go_on: Callable[[Tensor], object] = id, *, bound: bool = False) -> None:
        super().__init__()
        self.go_on = go_on
        self.split = Splitting() if bound else None
        self.body, self.shortcut = nn.Linear(6, 8), nn.Linear(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        if self.split is not None:
            skip, branch = self.split(x)
            return skip + branch
        x = x * 2
        skip, branch = self.shortcut(x), self.body(x).tanh()
        self.go_on(x)
        return skip + branch


class Splitting(nn.Module):
    """Returns skip and branch, and not what both start from."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.shortcut = nn.Linear(6, 6), nn.Linear(6, 8), nn.Linear(6, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x).relu()
        return self.shortcut(x), self.body(x).tanh()


def with_inputs(model: nn.Module) -> Unit:
    return run_passes(unit_of(model, 6), (TapResidues(projection_inputs=True), Lower()))


@pytest.mark.parametrize("go_on", [id, Tensor.zero_, lambda x: x.t().add_(1)])
def test_inputs_of_projections_are_handed_on_as_they_were(go_on: Callable[..., object]) -> None:
    model, x = Widening(go_on), torch.randn(3, 6)
    unit = with_inputs(model)
    found = list[Residue]()
    whole = unit.fact(Lowered).whole.function
    output, _ = whole.call(model, x, found.append)
    [residue] = found
    assert residue.ends is not None
    assert torch.equal(residue.ends.input, 2 * x)
    assert residue.ends.output is residue.output
    assert torch.equal(output, model(x))
    copies = [n for n in unit.traced().nodes if n.target is torch.clone]
    assert len(copies) == (go_on is not id)


def test_without_inputs_nothing_changes() -> None:
    """What is saved for backward, and the bits; the hash too, where they are not asked for."""
    model, x = Widening(), torch.randn(3, 6)
    plain, off, on = (
        transportify(model, torch.zeros(2, 6), verify=False, **options)
        for options in ({}, {"projection_inputs": False}, {"projection_inputs": True})
    )
    assert plain.graph_hash == off.graph_hash != on.graph_hash
    assert plain.facts.pipeline == off.facts.pipeline
    assert on.code == plain.code
    saved, costs = [], []
    for program in (off, on):
        sizes = list[int]()
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: (sizes.append(t.numel()), t)[1],  # type: ignore[misc]
            lambda t: t,
        ):
            output = program.whole(x)
        saved.append(sizes)
        costs.append(output.costs)
    assert saved[0] == saved[1]
    assert torch.equal(*costs)


def test_an_input_that_no_node_holds_is_refused() -> None:
    model = nn.Sequential(Widening(bound=True))
    assert [tap.kind for tap in compiled(model, 6).fact(Taps).found] == ["projection"]
    with pytest.raises(TraceError, match="that 0 adds starts inside of a module that is one node"):
        with_inputs(model)
