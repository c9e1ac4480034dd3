"""Pipelines: their text form, their errors, and the order in which passes run."""

import string
from dataclasses import MISSING, fields
from enum import Enum
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fxtransport.errors import PipelineError
from fxtransport.ir import Balance, PartitionPlan, Residuals, Shapes
from fxtransport.passes.base import Pass
from fxtransport.passes.partition import Partition
from fxtransport.passes.pipeline import (
    REGISTRY,
    PassRun,
    Pipeline,
    describe,
    option_type,
    pass_class,
    run_passes,
    with_requirements,
)
from fxtransport.passes.trace import Trace
from fxtransport.tracing.naming import FindResiduals
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
    if "cuts" in options:
        options["modules"] = len(options["cuts"]) + 1
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
        ("paritition", "there is no pass 'paritition'; the passes are record, additions"),
        ("partition{modules=2 size=3}", "partition has no option 'size'; its options: modules"),
        ("taps{modules=2}", "taps has no option 'modules'; its options: kinds"),
        ("partition{modules=many}", r"partition\{modules\} cannot be 'many'"),
        ("partition{modules=2 weight=gold}", "cannot be 'gold' .activations, parameters, flops"),
        ("partition{modules}", "cannot read the option 'modules'; write key=value"),
        ("partition{modules=2 =}", "cannot read the option '='"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message) as caught:
        Pipeline.parse(text)
    assert caught.value.exit_code == 2


MODEL = nn.Sequential(nn.Linear(4, 4), nn.ReLU())


def order(*steps: Pass, **given: Any) -> list[str]:
    names: list[str] = []

    def observe(run: PassRun) -> None:
        names.append(run.name)
        assert run.seconds >= 0
        assert run.rewrote == (run.name in ("trace", "taps"))
        assert (run.nodes > 0) == (run.after is not None)

    run_passes(unit_of(MODEL, 4), steps, observe=observe, **given)
    return names


def test_requirements_run_without_being_named() -> None:
    assert order(FindResiduals()) == ["record", "additions", "units", "trace", "residuals"]


def test_a_given_pass_stands_for_the_requirement() -> None:
    opened = Trace(open=("0",))
    steps = with_requirements([FindResiduals(), opened])
    assert [s for s in steps if isinstance(s, Trace)] == [opened]
    assert steps.index(opened) < steps.index(FindResiduals())


def test_facts_that_are_there_are_not_found_again() -> None:
    unit = run_passes(unit_of(MODEL, 4), [FindResiduals()])
    ran: list[str] = []
    run_passes(unit, [FindResiduals()], observe=lambda run: ran.append(run.name))
    assert ran == ["residuals"]


def test_stopping_behind_a_pass() -> None:
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
    assert found["summary"].endswith(".") or found["summary"]
    assert set(found["options"]) == {f.name for f in fields(pass_class(name))}
    assert found["provides"]
