"""Where a model came from, by its name and options."""

import dataclasses

import pytest

from fxtransport.origin import Origin


def test_a_submodule_has_the_origin_of_the_whole() -> None:
    whole = Origin("timm:resnet18", {"num_classes": 3})
    assert whole.at("layer1.0") == Origin("timm:resnet18#layer1.0", {"num_classes": 3})
    assert whole.model == "timm:resnet18"


def test_origins_differ_by_name_and_options() -> None:
    assert Origin("a") == Origin("a", {})
    assert Origin("a") != Origin("a", {"width": 1})
    assert Origin("a") != Origin("b")
    with pytest.raises(dataclasses.FrozenInstanceError):
        Origin("a").model = "b"  # type: ignore[misc]
