"""Pipelines: their text form, their errors, and the order in which passes run."""

import gc
import string
import subprocess
import sys
from dataclasses import MISSING, dataclass, fields
from enum import Enum
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import fx, nn

from fxtransport.errors import PipelineError
from fxtransport.ir import (
    Balance,
    Costs,
    HeadKind,
    HeadPlan,
    Heads,
    Kind,
    Origins,
    PartitionPlan,
    Recording,
    Residuals,
    Shapes,
    Taps,
)
from fxtransport.lowered import Lowered
from fxtransport.passes.base import Pass, option_type
from fxtransport.passes.boundaries import FindBoundaries
from fxtransport.passes.costs import CountCosts
from fxtransport.passes.heads import PlanHeads
from fxtransport.passes.lower import Lower
from fxtransport.passes.partition import Partition
from fxtransport.passes.pipeline import (
    CONFIGURABLE,
    REGISTRY,
    PassRun,
    Pipeline,
    describe,
    pass_class,
    program_settings,
    resolve_order,
    run_passes,
)
from fxtransport.passes.residuals import FindResiduals
from fxtransport.passes.taps import TapResidues
from fxtransport.passes.trace import Trace
from fxtransport.unit import Unit
from tests.compiling import unit_of

PATHS = st.text(string.ascii_lowercase + string.digits + '._ ,{}="\\\n', min_size=1)
LEAST = {"tolerance": 0.0, "seed": 0}  # of options that may be 0; others are at least 1


def values(name: str, annotation: Any) -> st.SearchStrategy[Any]:
    """Values of an option."""
    kind, optional = option_type(annotation)
    if optional:
        return st.none() | values(name, kind)
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        return st.lists(PATHS if inner is str else values(name, inner), max_size=3).map(tuple)
    if issubclass(kind, Enum):
        return st.sampled_from([member for member in kind if member not in {"model", "inner"}])
    if kind is int:
        return st.integers(int(LEAST.get(name, 1)), 99)
    if kind is float:
        return st.floats(LEAST.get(name, 1), 99)
    return {bool: st.booleans(), str: PATHS}[kind]


@st.composite
def passes(draw: st.DrawFn) -> Pass:
    """A pass with any options."""
    found = pass_class(draw(st.sampled_from(sorted(REGISTRY))))
    hints = get_type_hints(found)
    options = {
        f.name: draw(values(f.name, hints[f.name]))
        for f in fields(found)
        if f.default is MISSING or draw(st.booleans())
    }
    return found(**options)


@given(st.lists(passes(), min_size=1))
def test_the_text_form_says_everything(steps: list[Pass]) -> None:
    pipeline = Pipeline(tuple(steps))
    assert Pipeline.parse(str(pipeline)) == pipeline
    assert str(Pipeline.parse(str(pipeline))) == str(pipeline)


def test_a_text_form_that_a_person_writes() -> None:
    text = ' trace ,residuals, partition{ modules=4   balance="flops" } '
    trace, residuals, partition = Pipeline.parse(text).passes
    assert trace == Trace()
    assert residuals == FindResiduals()
    assert partition == Partition(4, Balance.FLOPS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the pipeline is empty"),
        ("  ", "cannot read the pipeline from '  '"),
        ("trace residuals", "expected a comma before 'residuals'"),
        ("trace{", r"expected a comma before '\{'"),
        ("trace,,residuals", "cannot read the pipeline from ',residuals' on"),
        ("Trace", "cannot read the pipeline from 'Trace' on"),
        ("paritition", "there is no pass 'paritition'; the passes are record, residuals"),
        ("partition{modules=2 size=3}", "partition has no option 'size'; its options: modules"),
        ("taps{modules=2}", "taps has no option 'modules'; its options: kinds"),
        ("partition{modules=many}", r"partition\{modules\} cannot be 'many'"),
        ("partition{balance=gold}", "cannot be 'gold' .depth, activations, parameters, flops"),
        ("partition{modules}", "cannot read the option 'modules'; write key=value"),
        ("partition{modules=2 =}", "cannot read the option '='"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message) as caught:
        Pipeline.parse(text)
    assert caught.value.exit_code == 2


MODEL = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))


def order(*steps: Pass, **options: Any) -> list[str]:
    names: list[str] = []

    def observe(run: PassRun) -> None:
        names.append(run.name)
        assert run.rewrote == (run.name in ("trace", "taps"))
        assert (run.nodes > 0) == (run.after is not None)

    run_passes(unit_of(MODEL, 4), steps, observe=observe, **options)
    return names


def test_requirements_run_without_being_named() -> None:
    assert order(Trace()) == ["record", "residuals", "layers", "trace"]
    assert order(Partition()) == (
        "record residuals layers trace taps boundaries costs heads partition".split()
    )


def test_a_given_pass_stands_for_the_requirement() -> None:
    opened = Trace(open=("0",))
    steps = resolve_order(unit_of(MODEL, 4), [TapResidues(), opened])
    assert [s for s in steps if isinstance(s, Trace)] == [opened]
    assert steps.index(opened) < steps.index(TapResidues())


def names_of(unit: Unit, *steps: Pass) -> list[str]:
    """The passes that would run."""
    return [step.name for step in resolve_order(unit, steps)]


def test_a_pass_whose_facts_are_true_does_not_run_again() -> None:
    unit = run_passes(unit_of(MODEL, 4), [Partition()])
    assert names_of(unit, TapResidues(), CountCosts(), Partition()) == []
    assert names_of(unit, Partition(2)) == ["partition"]
    assert names_of(unit, Partition(2), Partition()) == ["partition", "partition"]


def test_what_follows_from_a_fact_that_is_stated_again_is_dropped() -> None:
    unit = run_passes(unit_of(MODEL, 4), [PlanHeads(HeadKind.NONE), Lower()])
    again = run_passes(unit, [CountCosts(batch_size=2)])
    gone = {Heads, PartitionPlan, HeadPlan, Lowered}
    assert set(unit.facts) - set(again.facts) == gone
    assert again.fact(Costs).batch_size == 2
    # with the options that they had
    assert resolve_order(again, [Lower()]) == (PlanHeads(HeadKind.NONE), Partition(), Lower())


@dataclass(frozen=True)
class Reverse(Pass):
    """A rewrite that preserves almost nothing."""

    name: ClassVar[str] = "reverse"
    requires: ClassVar[tuple[type, ...]] = (Origins,)
    preserves: ClassVar[tuple[type, ...]] = (Recording, Residuals)
    rewrites: ClassVar[bool] = True

    def run(self, unit: Unit) -> Unit:
        graph = fx.Graph()
        graph.output(graph.graph_copy(unit.traced(), {}))
        return unit.with_graph(graph)


@dataclass(frozen=True)
class Watch(Pass):
    """Notes whether garbage in cycles is looked for."""

    name: ClassVar[str] = "watch"
    seen: ClassVar[list[bool]] = []

    def run(self, unit: Unit) -> Unit:
        self.seen.append(gc.isenabled())
        return unit


@dataclass(frozen=True)
class WatchWithData(Watch):
    """The same, where it computes with data."""

    holds_data: ClassVar[bool] = True


def test_garbage_is_looked_for_where_a_pass_holds_data() -> None:
    Watch.seen.clear()
    run_passes(unit_of(MODEL, 4), [Watch(), WatchWithData()])
    assert Watch.seen == [False, True]
    assert gc.isenabled()


def test_a_rewrite_drops_what_it_does_not_preserve() -> None:
    unit = run_passes(unit_of(MODEL, 4), [Reverse()])
    assert set(unit.facts) == {Recording, Residuals}
    assert [step.name for step in unit.history] == [
        "record",
        "residuals",
        "layers",
        "trace",
        "reverse",
    ]


def test_facts_that_taps_preserves_are_true_of_its_graph() -> None:
    unit = run_passes(unit_of(MODEL, 4), [Partition(), CountCosts()])
    tapped = run_passes(unit_of(MODEL, 4), [CountCosts(), TapResidues()])
    assert set(tapped.facts) == {*TapResidues.preserves, Taps, Shapes}
    assert unit.has(Costs)


@pytest.mark.parametrize(
    "text", ["taps{kinds=identity},taps", "boundaries,taps{kinds=identity},taps"]
)
def test_a_graph_is_not_rewritten_twice_by_one_pass(text: str) -> None:
    with pytest.raises(PipelineError, match="taps once, before what requires it"):
        run_passes(unit_of(MODEL, 4), Pipeline.parse(text).passes)
    unit = run_passes(unit_of(MODEL, 4), Pipeline.parse("boundaries").passes)
    with pytest.raises(
        PipelineError, match=r"taps has rewritten .* and taps\{kinds=identity\} would"
    ):
        run_passes(unit, [TapResidues((Kind.IDENTITY,))])


def test_a_rewrite_whose_facts_are_gone_says_what_to_do() -> None:
    unit = run_passes(unit_of(MODEL, 4), [TapResidues(), Reverse()])
    with pytest.raises(PipelineError, match="run what requires trace before that"):
        run_passes(unit, [FindBoundaries()])


@pytest.mark.parametrize(
    "text",
    [
        "lower",
        "costs{batch_size=4},partition{modules=2},heads{head=none},taps{kinds=identity},lower",
        "taps,costs,partition{modules=2},heads{head=none},partition,lower",
        "boundaries,trace{open=0}",
    ],
)
def test_the_text_of_what_ran_can_be_replayed(text: str) -> None:
    unit = run_passes(unit_of(MODEL, 4), Pipeline.parse(text).passes)
    ran = Pipeline.of(unit)
    assert {*ran.passes} >= {*Pipeline.parse(text).passes}
    again = run_passes(unit_of(MODEL, 4), Pipeline.parse(str(ran)).passes)
    assert Pipeline.of(again) == ran
    assert str(again.traced()) == str(unit.traced())
    assert again.facts.keys() == unit.facts.keys()


def test_the_text_names_requirements_and_options_that_are_not_defaults() -> None:
    unit = run_passes(unit_of(MODEL, 4), [CountCosts(4), Partition(), TapResidues()])
    assert str(Pipeline.of(unit)) == (
        "record,residuals,layers,trace,costs{batch_size=4},taps,boundaries,"
        "heads{optional=true},partition"
    )


def test_stopping_after_a_pass() -> None:
    assert order(Partition(1), after="trace")[-1] == "trace"
    unit = run_passes(unit_of(MODEL, 4), [Partition(1)], after="trace")
    assert unit.has(Shapes)
    assert not unit.has(PartitionPlan)
    with pytest.raises(PipelineError, match=r"'lower' is not in this pipeline, which runs record,"):
        order(FindResiduals(), after="lower")


def test_a_fact_that_is_missing_is_an_error() -> None:
    with pytest.raises(PipelineError, match="no pass has provided Residuals yet"):
        unit_of(MODEL, 4).fact(Residuals)
    with pytest.raises(PipelineError, match="run the pass trace first"):
        unit_of(MODEL, 4).traced()


@pytest.mark.parametrize("name", REGISTRY)
def test_every_pass_describes_itself(name: str) -> None:
    found = describe(name)
    assert found["name"] == name == pass_class(name).name
    assert found["summary"].endswith(".")
    assert set(found["options"]) == {f.name for f in fields(pass_class(name))}
    assert found["provides"]


@pytest.mark.parametrize("name", REGISTRY)
def test_options_of_programs_are_listed(name: str) -> None:
    declared = {f.name for f in fields(pass_class(name)) if "setting" in f.metadata}
    assert bool(declared) == (name in CONFIGURABLE)
    assert declared == {s.name for s in program_settings().values() if s.pass_name == name}


def test_options_of_programs_are_read_without_torch() -> None:
    """So that ``--help`` answers at once."""
    code = (
        "import sys; from fxtransport.passes.pipeline import program_settings; "
        "assert list(program_settings())[:2] == ['modules', 'balance']; "
        "found = {'torch', 'numpy', 'timm', 'torchvision'} & set(sys.modules); "
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
