"""The residual additions of models from the zoo equal those that people read in the source.

``tests/data/residual_truth.json`` holds one model for each source file of timm and
torchvision; ``docs/residuals.md`` says what the kinds mean.
"""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from timm import is_model
from torch import nn
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.segmentation import fcn_resnet50, lraspp_mobilenet_v3_large

from fxtransport.ir import TAPPED_KINDS, RecordedAdditions
from fxtransport.models import build, resolve
from fxtransport.passes.residuals import FindResiduals
from tests.compiling import run_on

DATA = Path(__file__).parents[1] / "data" / "residual_truth.json"
NOT_SCORED = {"timm:pnasnet5large"}  # all its additions are ambiguous
SLOW = {"timm:sequencer2d_s"}  # records every step of its LSTMs
EXTRA: dict[str, Callable[[], nn.Module]] = {
    "resnet50_fpn_backbone": lambda: resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, trainable_layers=5
    ),
    "fcn_resnet50": lambda: fcn_resnet50(weights=None, weights_backbone=None),
    "lraspp_mobilenet_v3_large": lambda: lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None
    ),
}


TRUTHS = [t for t in json.loads(DATA.read_text()) if t["model"] not in NOT_SCORED]


def scored(truth: dict[str, Any]) -> Any:
    """A test's parameter."""
    name = truth["model"]
    return pytest.param(truth, id=name, marks=[pytest.mark.slow] if name in SLOW else [])


def built(name: str) -> nn.Module:
    """A model without memory."""
    library, _, short = name.partition(":")
    if library == "timm" and not is_model(short):
        pytest.skip(f"this release of timm has no {short}")
    if library != "torchvision-extra":
        return build(resolve(name), device="meta")
    with torch.device("meta"):
        return EXTRA[short]()


@pytest.mark.parametrize("truth", [scored(truth) for truth in TRUTHS])
def test_the_additions_are_those_of_the_source(truth: dict[str, Any]) -> None:
    unit = run_on(built(truth["model"]), tuple(truth["input_size"]), FindResiduals())
    found = unit.fact(RecordedAdditions).found
    tapped = [[a.path, str(a.kind)] for a in found if a.kind in TAPPED_KINDS]
    assert tapped == truth["blocks"]
    counts = Counter(a.kind for a in found)
    assert counts["inner"] == truth["inner"]
    for kind in TAPPED_KINDS:
        assert counts[kind] == truth[kind]


def test_every_family_is_there() -> None:
    """The data was not cut short."""
    assert len(TRUTHS) == 57
