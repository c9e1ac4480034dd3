"""The modes of a program's modules, set for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

from torch import nn

from fxtransport.program import Program
from fxtransport.shells import shells_in


@contextmanager
def eval_mode(program: Program) -> Iterator[None]:
    """While active, the program is in eval mode. Then the mode of each module is restored.

    Modules are those of the program, of its model, and of its parts.
    """
    if not (program._model[0].training or _trains(program)):
        yield
        return
    parts = (*program.parts, program.whole)
    held = chain(parts, chain.from_iterable(map(shells_in, parts)))
    before = [(module, module.training) for module in (*_run_by(program), *held)]
    program.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def _run_by(program: Program) -> Iterator[nn.Module]:
    """The model, whose mode its own code asks for, and the modules of the program."""
    yield program._model[0]
    yield from program.modules()


def _trains(module: nn.Module) -> bool:
    """Whether a module, or one below it, is in train mode.

    This runs with every batch, and ``module.modules()`` takes twice as long.
    """
    if module.training:
        return True
    return any(_trains(child) for child in module._modules.values() if child is not None)
