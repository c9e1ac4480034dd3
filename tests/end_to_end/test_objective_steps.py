"""Programs under objectives train exactly as the methods written out in ``plain.py``."""

import copy
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor

from fxtransport import Part, Program, transportify
from fxtransport.objectives import (
    Objective,
    TransportCost,
    fixed,
    lap,
    trgl,
    trgl_multipliers,
    vangl,
)
from tests.end_to_end.plain import (
    Block,
    Net,
    Plain,
    PlainHead,
    PostActivation,
    PreActivation,
    Record,
    Rule,
    batches_of,
)

STEPS = 20
Batches = Sequence[tuple[Tensor, Tensor]]
DISPLACEMENT = TransportCost(residue="displacement")

every_net = pytest.mark.parametrize(
    ("block", "downsampling"),
    [
        (PreActivation, False),
        (PreActivation, True),
        (PostActivation, False),
        (PostActivation, True),
    ],
    ids=["pre", "pre, downsampling", "post", "post, downsampling"],
)


def net_of(block: type[Block], downsampling: bool) -> Net:
    torch.manual_seed(0)
    return Net(block, downsampling).double()


def program_of(net: Net, modules: int) -> Program:
    example = torch.zeros(2, 2, 6, 6, dtype=torch.float64)
    return transportify(copy.deepcopy(net), example, modules=modules, verify=False)


def plain_of(net: Net, program: Program, rule: Rule, **options: float) -> Plain:
    """The same network and heads; of one module, the whole."""
    heads = [part.auxiliary_head for part in program.parts if part.auxiliary_head is not None]
    modules = len(heads) + 1
    return Plain(
        net.train(),
        [PlainHead(head.state_dict()) for head in heads],
        [copy.copy(rule) for _ in range(modules)],
        cuts=(0, 4) if modules == 1 else (0, 2, 4),
        **options,  # type: ignore[arg-type]
    )


class Loop:
    """A user's own loop: nothing but a program and an objective."""

    def __init__(
        self, program: Program, objective: Objective, scales: Sequence[float] = (1, 1)
    ) -> None:
        self.program = program.train()
        self.objective = objective
        whole = len(program.parts) == 1
        self.parts: tuple[Part, ...] = (program.whole,) if whole else program.parts
        self.scales = scales
        self.optimizers = [
            torch.optim.SGD(part.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
            for part in self.parts
        ]

    def step(self, part: Part, x: Tensor, targets: Tensor) -> tuple[Tensor, Record]:
        output = part(x, measure=self.objective.cost)
        loss = self.objective(output, targets, self.objective.state(part.index))
        (self.scales[part.index] * loss.total).backward()
        others = [q for p in self.parts if p is not part for q in p.parameters()]
        assert not x.requires_grad
        assert all(parameter.grad is None for parameter in others)
        gradients = {n: p.grad.clone() for n, p in part.named_parameters() if p.grad is not None}
        before = [parameter.detach().clone() for parameter in others]
        self.optimizers[part.index].step()
        self.optimizers[part.index].zero_grad()
        assert all(torch.equal(p, b) for p, b in zip(others, before, strict=True))
        self.objective.commit(part.index, loss.next)
        value = 1.0 if loss.multiplier is None else loss.multiplier.item()
        record = Record(part.index, loss.classification, loss.transport, value, gradients)
        return output.hidden.detach(), record

    def parallel(self, batches: Batches) -> Iterator[Record]:
        for images, targets in batches:
            x = images
            for part in self.parts:
                x, record = self.step(part, x, targets)
                yield record

    def sequential(self, batches: Batches, laps: int = 1) -> Iterator[Record]:
        for _ in range(laps):
            for part in self.parts:
                for images, targets in batches:
                    x = images
                    with torch.no_grad():
                        for before in self.parts[: part.index]:
                            x = before.eval()(x, measure=None, head=False).hidden
                    yield self.step(part.train(), x, targets)[1]


def assert_same(
    found: Iterator[Record], expected: Iterator[Record], steps: int, *, has_cost: bool = True
) -> None:
    """Loss, cost, multiplier and every gradient of every step, in double precision."""
    count = 0
    for f, e in zip(found, expected, strict=True):
        assert f.part == e.part
        assert f.gradients.keys() == e.gradients.keys()
        torch.testing.assert_close(
            [f.loss, torch.tensor(f.value), *f.gradients.values()],
            [e.loss, torch.tensor(e.value), *(e.gradients[name] for name in f.gradients)],
            rtol=1e-8,
            atol=1e-11,
        )
        assert (f.cost is not None) == has_cost
        if has_cost:
            torch.testing.assert_close(f.cost, e.cost, rtol=1e-7, atol=1e-10)
        count += 1
    assert count == steps


@every_net
@pytest.mark.parametrize("displacement", [False, True], ids=["branch", "displacement"])
@pytest.mark.parametrize("order", ["code", "text"])
def test_least_action(
    block: type[Block], downsampling: bool, displacement: bool, order: str
) -> None:
    net = net_of(block, downsampling)
    program = program_of(net, modules=1)
    cost = DISPLACEMENT if displacement else TransportCost()
    is_code = order == "code"
    objective = lap(0.5, 0.3, 3, order="code" if is_code else "text", cost=cost)
    rule = Rule("lap", 0.5, 0.3, 3, "code" if is_code else "text")
    plain = plain_of(net, program, rule, displacement=displacement)
    batches = batches_of(STEPS)
    loop = Loop(program, objective)
    assert_same(loop.parallel(batches), plain.parallel(batches), STEPS)


METHODS: dict[str, tuple[Callable[[], Objective], Rule]] = {
    "vangl": (vangl, Rule("vangl")),
    "trgl": (lambda: trgl(0.05), Rule("trgl", 0.05)),
    "multipliers": (
        lambda: trgl_multipliers(0.5, 0.2, 4),
        Rule("trgl-multipliers", 0.5, 0.2, 4),
    ),
    "fixed": (lambda: fixed(3.0), Rule("fixed", 3.0)),
}


@every_net
@pytest.mark.parametrize("method", METHODS)
def test_parallel(block: type[Block], downsampling: bool, method: str) -> None:
    net = net_of(block, downsampling)
    program = program_of(net, modules=2)
    make, rule = METHODS[method]
    plain = plain_of(net, program, rule)
    batches = batches_of(STEPS)
    assert_same(
        Loop(program, make()).parallel(batches),
        plain.parallel(batches),
        len(program.parts) * STEPS,
        has_cost=method != "vangl",
    )


@every_net
@pytest.mark.parametrize("laps", [1, 3])
@pytest.mark.parametrize("method", ["trgl", "multipliers"])
def test_sequential(block: type[Block], downsampling: bool, method: str, laps: int) -> None:
    net = net_of(block, downsampling)
    program = program_of(net, modules=2)
    make, rule = METHODS[method]
    plain = plain_of(net, program, rule)
    batches = batches_of(STEPS // laps)
    loop = Loop(program, make())
    steps = len(program.parts) * laps * len(batches)
    assert_same(loop.sequential(batches, laps), plain.sequential(batches, laps), steps)


def test_label_smoothing() -> None:
    net = net_of(PostActivation, downsampling=True)
    program = program_of(net, modules=2)
    plain = plain_of(net, program, Rule("trgl", 0.05), smoothing=0.1)
    batches = batches_of(5)
    loop = Loop(program, trgl(0.05, label_smoothing=0.1))
    assert_same(loop.parallel(batches), plain.parallel(batches), 10)


def test_a_part_is_changed_by_its_own_loss_alone() -> None:
    """Scaling the loss of one changes nothing in what the other becomes."""
    net = net_of(PostActivation, downsampling=True)
    trained = []
    for scales in ((1, 1), (1, 10)):
        torch.manual_seed(1)
        program = program_of(net, modules=2)
        for _ in Loop(program, trgl(0.05), scales).parallel(batches_of(5)):
            pass
        trained.append([copy.deepcopy(part.state_dict()) for part in program.parts])
    first, scaled = trained
    assert all(torch.equal(first[0][name], scaled[0][name]) for name in first[0])
    weights = [name for name, tensor in first[1].items() if tensor.is_floating_point()]
    assert any(not torch.equal(first[1][name], scaled[1][name]) for name in weights)
