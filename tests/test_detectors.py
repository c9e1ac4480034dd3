"""From a name, a model or a program to features."""

import pytest
import torch
from torch import nn

from fxtransport import transport_features, transportify
from fxtransport.errors import UsageError
from tests.networks import Net


def test_names_models_and_programs_are_taken() -> None:
    model, images = Net(), torch.randn(2, 3, 8, 8)
    program = transportify(model, images)
    extract = transport_features(program, directions=2, kinds=["identity"], differentiable=True)
    assert extract.program is program
    assert (extract.directions, extract.kinds, extract.differentiable) == (2, {"identity"}, True)
    of_model = transport_features(model, images, modules=2)
    assert torch.equal(of_model(images)[1], transport_features(program)(images)[1])
    assert len(of_model.program.parts) == 2
    named = transport_features("torchvision:resnet18", input_size=32, verify=False)
    assert named(torch.randn(1, 3, 32, 32))[1].shape == (1, 16)


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        ("program", {"modules": 2}, "takes no modules$"),
        ("program", {"example_inputs": torch.zeros(2, 3, 8, 8)}, "takes no example_inputs$"),
        ("resnet18", {"example_inputs": torch.zeros(2, 3, 8, 8)}, "takes input_size, not"),
    ],
)
def test_options_that_mean_nothing_are_refused(given: str, options: dict, words: str) -> None:
    target: str | nn.Module = transportify(Net()) if given == "program" else given
    with pytest.raises(UsageError, match=words):
        transport_features(target, **options)
