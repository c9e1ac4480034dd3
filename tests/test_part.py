"""A part on its own: copied, moved, wrapped, and what happens when the program changes."""

import copy
import multiprocessing
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from fxtransport import Part, transportify
from fxtransport.errors import UsageError
from fxtransport.residue import Measures, Residue
from tests.compiling import cut, hidden_before
from tests.networks import IMAGES, OverwritingBlock, OverwritingNet


def train_step(part: Part, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
    """One step of SGD, and the part's state after it."""
    torch.manual_seed(7)
    optimizer = torch.optim.SGD(part.parameters(), lr=0.1, momentum=0.9)
    out = part.train()(hidden)
    (out.logits.square().mean() + out.costs.sum()).backward()
    optimizer.step()
    return {name: tensor.detach().clone() for name, tensor in part.state_dict().items()}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_copy_trains_as_the_part_does(
    net: OverwritingNet, images: torch.Tensor, index: int
) -> None:
    """Bit for bit, and without the program."""
    program = cut(net)
    part = program.parts[index]
    hidden = hidden_before(program, index, images)
    twin = copy.deepcopy(part)
    before = {name: tensor.clone() for name, tensor in program.state_dict().items()}
    after = train_step(twin, hidden)
    assert_same(program.state_dict(), before)
    assert_same(after, train_step(part, hidden))


def test_a_copy_holds_nothing_of_other_parts(net: OverwritingNet) -> None:
    """Neither modules, nor tensors, however deep one looks."""
    program = cut(net)
    twin = copy.deepcopy(program.parts[1])
    own = {id(t) for t in [*twin.parameters(), *twin.buffers()]}
    reachable = {id(t) for m in _modules_of(twin) for t in [*m.parameters(), *m.buffers()]}
    assert reachable == own
    mine = {id(t) for t in [*program.parameters(), *program.buffers()]}
    assert not own & mine


def _modules_of(part: Part) -> list[nn.Module]:
    """Every module that a part refers to, registered or not."""
    found: dict[int, nn.Module] = {}
    left: list[Any] = [part]
    seen: set[int] = set()
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, nn.Module):
            found[id(value)] = value
            left += vars(value).values()
        elif isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list | tuple):
            left += value
    return list(found.values())


def _train_elsewhere(part: Part, hidden: torch.Tensor, connection: Any) -> None:
    torch.set_num_threads(1)
    after = train_step(part, hidden)
    connection.send({name: tensor.tolist() for name, tensor in after.items()})


def test_a_copy_trains_in_another_process(net: OverwritingNet, images: torch.Tensor) -> None:
    """The weights equal those of the same step in place."""
    program = cut(net)
    hidden = hidden_before(program, 1, images)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    arguments = (program.parts[1], hidden, theirs)
    process = context.Process(target=_train_elsewhere, args=arguments)
    process.start()
    theirs.close()
    found = ours.recv()
    process.join()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    expected = train_step(program.parts[1], hidden)
    torch.set_num_threads(threads)
    assert found == {name: tensor.tolist() for name, tensor in expected.items()}


def test_a_part_can_be_checkpointed(net: OverwritingNet, images: torch.Tensor) -> None:
    """Its graph is computed again in backward, with the same gradients."""
    program = cut(net).eval()
    part, hidden = program.parts[1], hidden_before(program, 1, images).requires_grad_()
    plain = torch.autograd.grad(part(hidden).logits.sum(), hidden)[0]
    out = checkpoint(part, hidden, use_reentrant=False)
    assert torch.equal(torch.autograd.grad(out.logits.sum(), hidden)[0], plain)


def test_a_part_can_be_wrapped_in_ddp(
    net: OverwritingNet, images: torch.Tensor, tmp_path: Any
) -> None:
    """One process is enough to see that it is wrapped, runs and collects gradients."""
    program = cut(net)
    part, hidden = program.parts[1], hidden_before(program, 1, images)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        wrapped = DistributedDataParallel(part, find_unused_parameters=False)
        wrapped(hidden).logits.sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    assert all(p.grad is not None for p in part.parameters())


@pytest.mark.parametrize("make", [lambda part: part, copy.deepcopy], ids=["held", "copied"])
def test_a_part_compiles_as_one_graph(net: OverwritingNet, images: torch.Tensor, make: Any) -> None:
    program = cut(net).eval()
    part, hidden = make(program.parts[1]), hidden_before(program, 1, images)
    torch.compiler.reset()
    compiled = torch.compile(part, fullgraph=True, backend="eager")
    assert torch.equal(compiled(hidden).hidden, part(hidden).hidden)


def test_a_part_moves_with_its_buffers(net: OverwritingNet, images: torch.Tensor) -> None:
    """Another precision reaches the program, and parts that share what was moved."""
    program = cut(net).eval()
    last = program.parts[-1].to(torch.float64)
    assert net.head.weight.dtype == torch.float64
    assert program.shift.dtype == torch.float64
    assert program.stem.weight.dtype == torch.float32
    hidden = hidden_before(program, 2, images).double()
    assert last(hidden).hidden.dtype == torch.float64


def test_a_replaced_submodule_shows(net: OverwritingNet, images: torch.Tensor) -> None:
    """Of the root, and one deeper down, in what parts run and in what they own."""
    program = cut(net).eval()
    program.head = nn.Linear(4, 9)
    assert program.parts[-1].get_submodule("head") is program.head
    program.head = nn.Linear(4, 9)
    assert any(child is program.head for child in program.parts[-1].children())
    program.head = nn.Linear(4, 9)
    assert any(p is program.head.weight for p in program.parts[-1].parameters())
    hidden = hidden_before(program, 2, images)
    assert program.parts[-1](hidden).hidden.shape == (5, 9)
    assert torch.equal(program.parts[-1](hidden).hidden, program(images))
    program.blocks[3].conv = nn.Conv2d(4, 4, 1)
    assert torch.equal(program.parts[-1](hidden).hidden, program(images))
    program.train()
    assert program.head.training
    state = program.state_dict()
    assert state["head.weight"].shape == (9, 4)
    assert state["blocks.3.conv.weight"].shape == (4, 4, 1, 1)
    assert net.state_dict().keys() <= state.keys()


@pytest.mark.parametrize("index", [0, 3])
def test_an_opened_module_is_not_replaced_by_another(
    net: OverwritingNet, images: torch.Tensor, index: int
) -> None:
    """Its code is in the graph; one of the same class may take its place."""
    program = cut(net).eval()
    program.blocks[index] = OverwritingBlock(4)
    expected = copy.deepcopy(net).eval()
    expected.blocks[index] = program.blocks[index]
    assert torch.equal(program.eval()(images), expected(images))
    program.blocks[index] = nn.Identity()
    with pytest.raises(UsageError, match=rf"blocks\.{index} is now of class Identity"):
        program(images)
    part = program.parts[0 if index == 0 else -1]
    with pytest.raises(UsageError, match=rf"blocks\.{index} is now of class"):
        part(images)


def test_a_part_is_pickled_alone(net: OverwritingNet, images: torch.Tensor) -> None:
    """With its modes; what comes back computes the same, and shares nothing."""
    program = cut(net).train()
    part, hidden = program.parts[1].eval(), hidden_before(program, 1, images)
    twin = pickle.loads(pickle.dumps(part))
    assert torch.equal(twin(hidden).hidden, part(hidden).hidden)
    assert [m.training for m in twin.modules()] == [m.training for m in part.modules()]
    assert_same(twin.state_dict(), part.state_dict())
    assert not {id(p) for p in twin.parameters()} & {id(p) for p in program.parameters()}


def test_pickling_a_program_says_how_to_save_it(net: OverwritingNet) -> None:
    with pytest.raises(UsageError, match=r"fxtransport\.save\(program, folder\)"):
        pickle.dumps(cut(net))


def test_a_measure_may_be_any_tensor(net: OverwritingNet, images: torch.Tensor) -> None:
    """Scalars, values per sample, and tensors of any shape."""
    program = cut(net, modules=2).eval()
    residues = program.transport(images).residues
    part = program.parts[0]

    def per_sample(residue: Residue) -> torch.Tensor:
        return residue.branch.square().mean((1, 2, 3))

    scalars = part(images, measure=lambda residue: residue.branch.sum()).costs
    assert torch.equal(scalars, torch.stack([residues[0].sum(), residues[1].sum()]))
    rows = part(images, measure=per_sample).costs
    assert rows.shape == (5, 2)
    assert torch.equal(rows[:, 1], residues[1].square().mean((1, 2, 3)))
    whole = part(images, measure=lambda residue: residue.branch).costs
    assert isinstance(whole, tuple)
    assert torch.equal(whole[0], residues[0])
    first = part(images, measure=Measures(residue=per_sample)).costs
    assert torch.equal(first, rows)
    assert len(part(images, measure=lambda _: None).costs) == 0
    assert len(part(images, measure=Measures()).costs) == 0


def test_plain_attributes_are_read_live(net: OverwritingNet) -> None:
    """Through what stands for a module that is held in part."""
    net.blocks.alpha = 1.0
    program = cut(net)
    shell = program.parts[1].get_submodule("blocks")
    assert shell.alpha == 1.0
    net.blocks.alpha = 2.0
    assert shell.alpha == 2.0
    assert copy.deepcopy(program.parts[1]).get_submodule("blocks").alpha == 2.0
    with pytest.raises(AttributeError, match="belongs to another part"):
        getattr(shell, "0")


def test_hooks_of_a_program_run_for_transport(net: OverwritingNet, images: torch.Tensor) -> None:
    program = cut(net)
    seen: list[str] = []
    program.register_forward_hook(lambda *_: seen.append("after"))
    program.register_forward_pre_hook(lambda *_: seen.append("before"))
    program.transport(images)
    assert seen == ["before", "after"]


def test_no_part_overwrites_what_it_is_given(net: OverwritingNet, images: torch.Tensor) -> None:
    """Hidden states can be leaves of autograd."""
    program = transportify(net, IMAGES, modules=4)
    hidden: torch.Tensor = images
    for part in program.parts:
        given = hidden.detach().clone().requires_grad_()
        kept = given.detach().clone()
        out = part(given)
        out.logits.sum().backward()
        assert torch.equal(given, kept)
        assert given.grad is not None
        hidden = out.hidden


class HeadInFront(nn.Module):
    """Calls an inner stage what parts call their auxiliary head."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(OverwritingBlock(4), OverwritingBlock(4))
        self.index = nn.Sequential(OverwritingBlock(4), OverwritingBlock(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.index(self.head(x)).mean((2, 3))


@pytest.mark.parametrize("modules", [2, 3, 4])
def test_submodules_may_have_any_name(modules: int) -> None:
    """``head`` and ``index`` are the user's, and parts still have their own."""
    net = HeadInFront()
    images = torch.randn(2, 4, 8, 8)
    program = transportify(net, images, modules=modules).eval()
    hidden: torch.Tensor = images
    for part in program.parts:
        out = part(hidden)
        hidden = out.hidden
    assert torch.equal(hidden, net(images))
    own = {id(p) for p in net.parameters()}
    assert own <= {id(p) for part in program.parts for p in part.parameters()}
    assert program.parts[0].auxiliary_head is not None
    assert all(id(p) not in own for p in program.parts[0].auxiliary_head.parameters())


def test_functions_of_parameters() -> None:
    """``functional_call`` reaches a submodule that is called ``head``."""
    net = nn.Sequential()
    net.head = nn.Sequential(OverwritingBlock(4), OverwritingBlock(4))
    images = torch.randn(2, 4, 8, 8)
    whole = transportify(net, images).eval().whole
    doubled = {name: 2 * parameter for name, parameter in whole.named_parameters()}
    called = torch.func.functional_call(whole, doubled, images, {"measure": None})
    assert torch.equal(called.hidden, torch.func.functional_call(net, doubled, images))


def test_an_attribute_of_a_part_is_the_present_submodule(net: OverwritingNet) -> None:
    """As soon as it is replaced, also in what is held in part."""
    program = cut(net)
    program.head = nn.Linear(4, 9)
    assert program.parts[-1].head is program.head
    program.blocks = nn.Sequential(*(OverwritingBlock(4) for _ in range(4)))
    assert program.parts[-1].blocks.get_submodule("3") is program.blocks[3]
    assert not hasattr(program.parts[-1], "stem")
