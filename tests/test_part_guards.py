"""What parts and programs refuse to run with: changed attributes, hooks of opened modules."""

import copy
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from fxtransport import Program
from fxtransport.errors import GuardError, UsageError
from fxtransport.lowered import Lowered
from fxtransport.watched import Watched, snapshot
from tests.compiling import cut
from tests.networks import OverwritingBlock, OverwritingNet


def watching(net: nn.Module, *entries: tuple[str, str]) -> Program:
    """A program whose graph depends on attributes, by path and name."""
    program = cut(net)
    watched = tuple(
        Watched(path, name, snapshot(getattr(net.get_submodule(path), name)))
        for path, name in entries
    )
    lowered = Lowered(
        program.lowered.forward,
        tuple(replace(part, watched=watched) for part in program.lowered.parts),
        replace(program.lowered.whole, watched=watched),
    )
    return Program(net, lowered, program.facts, {})


def test_attributes_that_the_graph_depends_on_are_guarded(
    net: OverwritingNet, images: torch.Tensor
) -> None:
    """In the program, in parts, and in what was copied or pickled of them."""
    net.mode, net.blocks[0].mode = "fast", {"kind": 1}  # type: ignore[assignment]
    program = watching(net, ("", "mode"), ("blocks.0", "mode"))
    twins = [copy.deepcopy(program.parts[0]), pickle.loads(pickle.dumps(program.parts[0]))]
    other = copy.deepcopy(program)
    program(images)
    net.mode = "slow"
    for call in (program, program.parts[0]):
        with pytest.raises(GuardError, match=r"the model .* reads self\.mode, which was 'fast'"):
            call(images)
    net.mode = "fast"
    net.blocks[0].mode["kind"] = 2  # type: ignore[index]
    for call in (program, program.parts[0]):
        with pytest.raises(GuardError, match=r"blocks\.0 .* reads self\.mode\['kind'\], which"):
            call(images)
    for twin in (*twins, other, other.parts[0]):
        twin(images)
    other.blocks[0].mode["kind"] = twins[0].get_submodule("blocks.0").mode["kind"] = 2  # type: ignore[union-attr,index]
    for twin in (twins[0], other, other.parts[0]):
        with pytest.raises(GuardError, match=r"blocks\.0 .* reads self\.mode\['kind'\], which"):
            twin(images)


@pytest.mark.parametrize("path", ["", "blocks", "blocks.0"])
def test_hooks_that_would_not_run_are_refused(
    net: OverwritingNet, images: torch.Tensor, path: str
) -> None:
    """On modules whose code is in the graph, after compiling."""
    program = cut(net)
    handle = net.get_submodule(path).register_forward_hook(lambda *_: None)
    where = path or "the model"
    for call in (program, program.parts[0]):
        with pytest.raises(GuardError, match=rf"{where} \(\w+\) has a forward hook, which"):
            call(images)
    handle.remove()
    program(images)


def test_hooks_of_what_stands_for_a_module_are_refused(
    net: OverwritingNet, images: torch.Tensor
) -> None:
    """They are the part's alone, and would not run either."""
    part = cut(net).parts[0]
    part.get_submodule("blocks").register_forward_pre_hook(lambda *_: None)
    with pytest.raises(GuardError, match=r"blocks \(Sequential\) has a forward pre-hook, which"):
        part(images)


def test_hooks_that_run(net: OverwritingNet, images: torch.Tensor) -> None:
    """On the program, its parts, and modules that are called as they are."""
    program = cut(net)
    seen: list[str] = []

    def note(name: str) -> Any:
        return lambda *_: seen.append(name)

    program.register_forward_hook(note("program"))
    program.parts[0].register_forward_hook(note("part"))
    net.stem.register_forward_hook(note("stem"))
    net.blocks[0].conv.register_forward_hook(note("conv"))
    program(images)
    assert seen == ["stem", "conv", "program"]
    seen.clear()
    program.parts[0](images)
    assert seen == ["stem", "conv", "part"]


def test_an_opened_container_is_replaced(net: OverwritingNet, images: torch.Tensor) -> None:
    """By one of the same class, with what is inside, in every part."""
    program = cut(net).eval()
    twin = copy.deepcopy(net).eval()
    twin.blocks = nn.Sequential(*(OverwritingBlock(4) for _ in range(4))).eval()
    program.blocks = twin.blocks
    hidden = images
    for part in program.parts:
        hidden = part(hidden).hidden
    assert torch.equal(hidden, twin(images))
    assert torch.equal(program(images), twin(images))
    program.blocks = twin.blocks[:1]
    with pytest.raises(UsageError, match=r"blocks\.1 is now of class NoneType"):
        program(images)


def test_compiled_code_is_guarded(net: OverwritingNet, images: torch.Tensor) -> None:
    """By plain attributes and hooks: what changes one of them compiles again, and is refused."""
    net.blocks[0].mode = "fast"
    program = watching(net, ("blocks.0", "mode")).eval()
    for call in (program, program.parts[0]):
        torch.compiler.reset()
        compiled = torch.compile(call, fullgraph=True, backend="eager")
        compiled(images)
        net.blocks[0].mode = "slow"
        with pytest.raises(Exception, match=r"blocks\.0 .* reads self\.mode, which was 'fast'"):
            compiled(images)
        net.blocks[0].mode = "fast"
        compiled(images)
        handle = net.blocks[0].register_forward_hook(lambda *_: None)
        with pytest.raises(Exception, match=r"blocks\.0 \(\w+\) has a forward hook, which"):
            compiled(images)
        handle.remove()
        compiled(images)


def test_compiled_parts_run_what_was_replaced(net: OverwritingNet, images: torch.Tensor) -> None:
    """On the program, without a call that is not compiled in between."""
    program = cut(net, modules=2).eval()
    part, hidden = program.parts[1], program.parts[0](images).hidden.detach()
    torch.compiler.reset()
    compiled = torch.compile(part, fullgraph=True, backend="eager")
    compiled(hidden)
    replacements = [
        (program, "head", nn.Linear(4, 9)),
        (program, "shift", torch.ones(4)),
        (program, "scale", nn.Parameter(torch.tensor(3.0))),
        (program.blocks, "3", OverwritingBlock(4).eval()),
        (program.blocks[3], "conv", nn.Conv2d(4, 4, 1)),
    ]
    for holder, name, value in replacements:
        setattr(holder, name, value)
        found = compiled(hidden).hidden
        assert torch.equal(found, part(hidden).hidden), name
    with torch.compiler.set_stance("fail_on_recompile"):
        compiled(hidden)
