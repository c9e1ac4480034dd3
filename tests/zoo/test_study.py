"""What a record says of one model."""

from pathlib import Path

import pytest
from torch.fx import Graph

from fxtransport.errors import TraceError
from fxtransport.passes.taps import TapResidues
from fxtransport.unit import Unit
from fxtransport.zoo.record import Options, Record, Verified
from fxtransport.zoo.study import refusal_of, study


def test_a_record_says_what_was_found(nets: Path) -> None:
    record = study(f"{nets}:Net", Options(verify_below=1000))
    assert record.family == "file:nets"
    assert record.parameters == 112 + 4 * 156 + 25
    assert record.residuals == {"identity": 4}
    assert record.layers == 0
    assert record.boundaries == 6
    assert record.imbalances.keys() == {"2", "4", "8"}
    assert record.imbalances["2"] is not None
    assert record.imbalances["8"] is None, "it has four blocks"
    assert record.verified == Verified(((3, 8, 8),), {"train": 0.0, "eval": 0.0}, 1.0)
    assert record.refusal is None
    assert Record.from_json(record.to_json()) == record


def test_layers_without_residuals_and_no_verification_by_default(nets: Path) -> None:
    record = study(f"{nets}:Plain")
    assert (record.residuals, record.layers, record.verified) == ({}, 4, None)


@pytest.mark.parametrize("name", ["Net", "Plain"])
def test_the_graph_is_tapped_once(nets: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tapped again, a graph would compute the residues twice, and copies of what it adds."""
    graphs: list[Graph | None] = []
    run = TapResidues.run

    def counted(step: TapResidues, unit: Unit) -> Unit:
        graphs.append(unit.graph)
        return run(step, unit)

    monkeypatch.setattr(TapResidues, "run", counted)
    study(f"{nets}:{name}")
    assert len(graphs) == 1


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Decides", "TraceError: has data-dependent control flow"),
        ("Raises", "TraceError: raised KeyError"),
        ("Sizeless", "ModelNameError: the input's size is not known"),
    ],
)
def test_refusals_have_a_class(nets: Path, name: str, kind: str) -> None:
    record = study(f"{nets}:{name}")
    assert record.refusal is not None
    assert record.refusal.kind == kind
    assert Record.from_json(record.to_json()) == record


def test_reasons_name_no_folder_of_this_machine() -> None:
    error = TraceError("rpn (Rpn) raised KeyError at /a/lib/site-packages/timm/x.py:3: no.")
    assert refusal_of(error).reason == "rpn (Rpn) raised KeyError at timm/x.py:3: no."


def test_verification_takes_the_smallest_input() -> None:
    record = study("torchvision:squeezenet1_1", Options(verify_below=60_000_000))
    assert record.verified is not None
    assert record.verified.sizes == ((3, 64, 64),)


def test_a_backbone_is_compiled_and_said_so(nets: Path) -> None:
    record = study(f"{nets}:Detects", Options(verify_below=1000))
    assert record.refusal is None
    assert record.submodule == "backbone"
    assert record.whole is not None
    assert record.whole.kind == "TraceError: has data-dependent control flow"
    assert record.residuals == {"identity": 4}
    assert record.verified == Verified(((3, 8, 8),), {"train": 0.0, "eval": 0.0}, 1.0)
    assert Record.from_json(record.to_json()) == record


def test_a_submodule_that_is_asked_for(nets: Path) -> None:
    record = study(f"{nets}:Net", Options(verify_below=1000, submodule="blocks.1"))
    assert (record.submodule, record.whole, record.parameters) == ("blocks.1", None, 156)
    assert record.verified == Verified(((4, 8, 8),), {"train": 0.0, "eval": 0.0}, 1.0)


def test_quantized_models_are_refused_with_the_float_model() -> None:
    record = study("torchvision:quantized_resnet18")
    assert record.refusal is not None
    assert record.refusal.kind == "ModelNameError: quantized models cannot be trained"
    assert record.refusal.reason.endswith("compile the float model instead: torchvision:resnet18")


@pytest.mark.slow
def test_optical_flow_takes_two_images() -> None:
    record = study("torchvision:raft_small", Options(verify_below=60_000_000))
    assert record.refusal is None
    assert record.verified == Verified(((3, 128, 128),) * 2, {"train": 0.0, "eval": 0.0}, 1.0)
