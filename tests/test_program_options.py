"""Options of programs as keywords: their values, their errors, their documentation."""

import inspect
from typing import Any

import pytest
import torch
from torch import nn

from fxtransport import transportify
from fxtransport.compiler import compile_passes
from fxtransport.errors import UsageError
from fxtransport.ir import Balance, HeadKind, Kind
from fxtransport.passes.boundaries import FindBoundaries
from fxtransport.passes.costs import CountCosts
from fxtransport.passes.heads import PlanHeads
from fxtransport.passes.partition import Partition
from fxtransport.passes.pipeline import program_settings
from fxtransport.passes.taps import TapResidues


def test_each_option_goes_to_the_pass_that_declares_it() -> None:
    found = compile_passes(
        modules=3,
        balance="flops",
        batch_size=4,
        cuts=["a", "b"],
        kinds=["identity"],
        head="token",
        num_classes=5,
        head_width=64,
        head_budget=3,
    )
    assert set(found) >= {
        Partition(3, Balance.FLOPS),
        FindBoundaries(("a", "b")),
        CountCosts(4),
        PlanHeads(HeadKind.TOKEN, 5, 64, 3.0),
        TapResidues((Kind.IDENTITY,)),
    }
    assert [p.name for p in found][-2:] == ["lower", "verify"]
    assert [p.name for p in compile_passes(verify=False)][-1] == "lower"


def test_defaults_are_those_of_the_passes() -> None:
    defaults = {s.name: s.default for s in program_settings().values()}
    assert compile_passes(**defaults) == compile_passes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"balance": "width"},
            "balance is one of depth, activations, parameters, flops, memory, not 'wi",
        ),
        ({"head": "model"}, "head is one of auto, conv, token, dgl, dgl_conv, none, not 'model'"),
        ({"kinds": [Kind.INNER]}, "kinds is one of identity, projection, identity_bn, not 'inner'"),
        ({"kinds": "identity"}, r"kinds is a sequence, such as \['identity'\], not 'identity'"),
        ({"cuts": 3}, "cuts is a sequence"),
        ({"modules": "two"}, "modules takes int, not 'two'"),
        ({"modules": None}, "modules takes int, not None"),
        ({"head_budget": "much"}, "head_budget takes float, not 'much'"),
        ({"head_budget": -1}, "head_budget is a number of percent, 0 or more, not -1"),
        ({"head_budget": float("nan")}, "0 or more, not nan"),
        ({"modules": 0}, "into 0 parts"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"module": 2}, "no option 'module'; did you mean modules"),
        ({"zzz": 2}, "no option 'zzz'; there are modules, balance"),
        ({"weight": "flops"}, "no option 'weight'; use balance, which is one of 'depth', 'activ"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        transportify(nn.Linear(2, 2), torch.zeros(2, 2), **options)


def test_the_signature_and_the_docstring_show_all_options() -> None:
    parameters = inspect.signature(transportify).parameters
    for name, setting in program_settings().items():
        assert parameters[name].default == setting.default
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        text = inspect.getdoc(transportify) or ""
        assert f"\n    {name}: {setting.how.help.split()[0]}" in text
    assert {"model", "example_inputs", "verify"} <= parameters.keys()
    assert "options" not in parameters
    assert "activations" in str(transportify.__doc__)


def test_cuts_and_modules_that_do_not_agree() -> None:
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(4)))
    with pytest.raises(UsageError, match="1 in cuts makes 2 parts, not 4"):
        transportify(model, torch.zeros(2, 2), cuts=["1"], modules=4, verify=False)
