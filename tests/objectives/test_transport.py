"""The transport cost of blocks: its options, against the residues worked out by hand."""

import pytest
import torch
from torch import Tensor, nn

from fxtransport import Program, transportify
from fxtransport.errors import UsageError
from fxtransport.objectives import Objective, TransportCost, lap, trgl, vangl
from fxtransport.residue import Reduction
from tests.end_to_end.plain import Net, PostActivation, PreActivation

IMAGES = torch.randn(5, 2, 6, 6, generator=torch.Generator().manual_seed(0))


def program_of(net: nn.Module, modules: int = 1) -> Program:
    return transportify(net, torch.zeros(2, 2, 6, 6), modules=modules, verify=False)


def net_of(block: type[PreActivation | PostActivation]) -> Net:
    """Three identity blocks and a projection, the third."""
    torch.manual_seed(0)
    return Net(block, downsampling=True).train()


def residues(net: Net, residue: str) -> list[Tensor | None]:
    """What is penalized of each block; None of a block without displacement."""
    x, found = net.stem(IMAGES), list[Tensor | None]()
    for block in net.blocks:
        assert isinstance(block, PreActivation | PostActivation)
        values = block.values(x)
        if residue == "branch":
            found.append(values.branch)
        else:
            found.append(values.output - x if values.identity else None)
        x = values.output
    return found


@pytest.mark.parametrize("block", [PreActivation, PostActivation])
@pytest.mark.parametrize("residue", ["branch", "displacement"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("p", [1.0, 2.0, 3.5])
def test_costs(
    block: type[PreActivation | PostActivation], residue: str, reduction: Reduction, p: float
) -> None:
    net = net_of(block)
    expected = []
    for value in residues(net, residue):
        if value is not None:
            powers = value.abs() ** p
            expected.append(powers.mean() if reduction == "mean" else powers.sum() / len(IMAGES))
    cost = TransportCost(p=p, reduction=reduction, residue=residue)
    found = program_of(net).whole(IMAGES, measure=cost).costs
    assert len(found) == (4 if residue == "branch" else 3)
    torch.testing.assert_close(found, torch.stack(expected))


def test_kinds_are_a_choice() -> None:
    program = program_of(net_of(PostActivation))
    every = program.whole(IMAGES).costs
    identity = program.whole(IMAGES, measure=TransportCost(kinds=("identity",))).costs
    projection = program.whole(IMAGES, measure=TransportCost(kinds=("projection",))).costs
    torch.testing.assert_close(identity, every[[0, 1, 3]])
    torch.testing.assert_close(projection, every[[2]])


@pytest.mark.parametrize("residue", ["branch", "displacement"])
def test_layers_are_penalized_by_their_displacement(residue: str) -> None:
    """g_m(x_m) - x_m, by either name (THESIS 2.1)."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(2, 4, 1)]
    for _ in range(3):
        layers += [nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)]
    net = nn.Sequential(*layers)
    found = program_of(net).whole(IMAGES, measure=TransportCost(residue=residue)).costs
    x, expected = net[0](IMAGES), []
    for first in (1, 4, 7):
        y = net[first : first + 3](x)
        expected.append((y - x).square().mean())
        x = y
    torch.testing.assert_close(found, torch.stack(expected))


@pytest.mark.parametrize("objective", [lap(1, 1, 1), trgl(0.5), vangl()])
def test_a_part_without_blocks_costs_nothing(objective: Objective) -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Flatten(), nn.Linear(144, 3))
    output = program_of(net).whole(IMAGES, measure=objective.cost)
    assert len(output.costs) == 0
    loss = objective(output, torch.zeros(5, dtype=torch.int64), objective.state())
    assert loss.total == loss.classification


def test_without_a_cost_no_residue_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    """VanGL measures nothing, and a part whose head is not run gives no logits."""
    program = program_of(net_of(PostActivation), modules=2)

    def refuse(*_: object) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr("fxtransport.residue.power_cost", refuse)
    monkeypatch.setattr("fxtransport.residue.Residue.__init__", refuse)
    head = program.parts[0].auxiliary_head
    assert head is not None
    ran = list[object]()
    head.register_forward_hook(lambda *arguments: ran.append(arguments))
    output = program.parts[0](IMAGES, measure=vangl().cost, head=False)
    assert len(output.costs) == 0
    assert output.logits is None
    assert not ran
    assert program.parts[0](IMAGES, measure=None).logits.shape == (5, 3)
    with pytest.raises(AssertionError, match="measured"):
        program.parts[0](IMAGES)


def test_the_whole_is_the_program() -> None:
    net = net_of(PreActivation).eval()
    program = program_of(net, modules=2)
    whole = program.whole
    assert whole.is_last
    assert (whole.index, whole.exit) == (0, 1)
    assert whole.auxiliary_head is None
    assert dict(whole.named_parameters()).keys() == dict(net.named_parameters()).keys()
    assert all(p is net.get_parameter(name) for name, p in whole.named_parameters())
    assert "whole" not in "".join(program.state_dict())
    output = whole(IMAGES)
    assert torch.equal(output.hidden, net(IMAGES))
    assert torch.equal(output.logits, net(IMAGES))
    double = program.to(torch.float64)
    assert double.whole(IMAGES.double()).logits.dtype == torch.float64


@pytest.mark.parametrize("residue", ["branch", "displacement"])
def test_parts_compile_with_a_cost(residue: str) -> None:
    """Whole, and to the same numbers and gradients."""
    program = program_of(net_of(PostActivation), modules=2)
    part, cost = program.parts[0], TransportCost(p=3, residue=residue)
    compiled = torch.compile(part, fullgraph=True, backend="aot_eager")
    found, expected = compiled(IMAGES, measure=cost), part(IMAGES, measure=cost)
    torch.testing.assert_close(found.costs, expected.costs)
    gradients = [
        torch.autograd.grad(output.costs.sum() + output.logits.sum(), list(part.parameters()))
        for output in (found, expected)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p": 0.5}, "at least 1, not 0.5"),
        ({"p": float("nan")}, "at least 1, not nan"),
        ({"reduction": "max"}, "reduction must be 'mean' or 'sum', not 'max'"),
        ({"residue": "skip"}, "residue must be 'branch' or 'displacement', not 'skip'"),
        (
            {"kinds": ("inner",)},
            "from identity, projection, identity_bn, not 'inner'",
        ),
        ({"kinds": ()}, "kinds is empty"),
    ],
)
def test_options_that_are_not_valid(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TransportCost(**options)  # type: ignore[arg-type]
