"""What ``fxtransport split --json`` prints."""

import torch

from fxtransport import transportify
from fxtransport.report.summary import summary
from tests.patterns import PATTERNS


def test_parts_have_their_costs_and_the_cut_its_tensors() -> None:
    pattern = PATTERNS["SharedModule"]()
    example = torch.zeros(2, *pattern.shape)
    program = transportify(pattern, example, modules=3, head="dgl", num_classes=3)
    found = summary(program, "a model", 32)
    first, _, last = found["modules"]
    assert (found["model"], found["balance"], found["batch_size"]) == ("a model", "depth", 32)
    assert (first["index"], last["index"]) == (0, 2)
    assert (first["input_shapes"], first["residuals"]) == ([[4, 8, 8]], 1)
    assert first["output_shapes"] == [[4, 8, 8]]
    assert [len(tensors) for tensors in found["crossing"]] == [1, 1]
    head = program.parts[0].auxiliary_head
    assert head is not None
    assert first["head"]["kind"] == "dgl"
    assert first["head"]["parameters"] == sum(p.numel() for p in head.parameters())
    assert first["head"]["flops"] > 0
    assert last["head"] == {"kind": "model", "parameters": 0, "flops": 0, "activation_bytes": 0}
    own = [*pattern.position.parameters(), *pattern.mixer.parameters()]
    assert first["parameters"] == sum(p.numel() for p in own)
    assert found["max_error"] == 0.0


def test_without_verification_there_is_no_error() -> None:
    pattern = PATTERNS["PlainLayers"]()
    example = torch.zeros(2, *pattern.shape)
    program = transportify(pattern, example, verify=False)
    found = summary(program, "x", 32)
    assert (found["unit"], found["max_error"], found["cuts"]) == ("layer", None, [])
