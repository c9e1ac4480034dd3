"""The head is the linear layer that returns the logits."""

import pytest
import torch
from torch import Tensor, nn

from fxtransport import image_extractor, transportify
from fxtransport.detection.head import Head
from fxtransport.errors import UsageError
from tests.networks import Net


def test_the_head_makes_logits_of_what_enters_it() -> None:
    images = torch.randn(4, 3, 8, 8)
    extract = image_extractor(Net(), images)
    head = Head.of(extract.program)
    observed = extract.observe([images])
    logits = observed["penultimate"] @ head.weight.T + head.bias
    torch.testing.assert_close(torch.from_numpy(logits), torch.from_numpy(observed["logits"]))
    with torch.no_grad():
        extract.program.head.weight.zero_()
    assert head.weight.any()
    found = head.module()(torch.from_numpy(observed["penultimate"]))
    torch.testing.assert_close(found, torch.from_numpy(logits))


def test_a_head_may_have_no_bias() -> None:
    model = Net()
    model.head = nn.Linear(4, 5, bias=False)
    assert Head.of(transportify(model, torch.zeros(2, 3, 8, 8))).bias.tolist() == [0.0] * 5


def test_what_has_no_linear_head_is_refused() -> None:
    class Scaled(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 2

    with pytest.raises(UsageError, match=r"not what an nn\.Linear returns"):
        Head.of(transportify(Scaled(), torch.zeros(2, 3, 8, 8)))
