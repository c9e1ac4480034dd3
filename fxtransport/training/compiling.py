"""Functions that ``torch.compile`` takes as one graph, and what compiling them takes."""

import importlib
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from types import CodeType, FunctionType, SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch._dynamo.backends.registry import lookup_backend
from torch._dynamo.exc import InvalidBackend
from torch.utils._pytree import tree_leaves

from fxtransport.errors import UsageError
from fxtransport.training.reports import PartStep
from fxtransport.training.settings import TrainerSettings

_STARTING_PROCESSES = (
    "torch._inductor.cpp_builder",
    "torch._inductor.compile_worker.subproc_pool",
)
"""The modules of torch that start compilers and workers."""
_STARTS = ("Popen", "run", "call", "check_call", "check_output")


class Compiled:
    """A function that is compiled as one graph, for batches of one size, and reused.

    Smaller batches, such as the last of an epoch, and those of other shapes run the function
    itself.

    Args:
        function: The function.
        name: What logs of torch call it.
        backend: Of ``torch.compile``.
        cuda_graphs: Whether Inductor's code is replayed as CUDA graphs. What they return is
            overwritten in the next step, which :func:`begin_step` announces.

    Raises:
        UsageError: torch has no such backend.
    """

    graphs: int
    """How many graphs were compiled."""

    def __init__(
        self, function: Callable[..., Any], name: str, backend: str, cuda_graphs: bool = False
    ) -> None:
        self.graphs = 0
        self._function = function
        self._backend = _backend(backend)
        if cuda_graphs:
            options = torch._inductor.list_mode_options("reduce-overhead")
            self._backend = partial(self._backend, config_patches=options)
        self._compiled = torch.compile(
            own_code(function, name), backend=self._counted, fullgraph=True, dynamic=False
        )
        self._shapes: tuple[torch.Size, ...] = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function returns."""
        shapes = tuple(
            leaf.shape for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)
        )
        if shapes != self._shapes:
            # a run that is resumed may begin with the last batch of an epoch
            if self._shapes and _rows(shapes) <= _rows(self._shapes):
                return self._function(*args, **kwargs)
            self._shapes = shapes
        return self._compiled(*args, **kwargs)

    def _counted(self, graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        compiled = self._backend(graph, inputs)
        # not where torch begins again, for numbers that it wants as constants
        self.graphs += 1
        return compiled


def begin_step(settings: TrainerSettings) -> None:
    """Say that a step begins: CUDA graphs may overwrite what those of the step before returned.

    Without it torch would take each part for a step, and overwrite the hidden state that it hands
    to the next one.
    """
    if settings.cuda_graphs:
        torch.compiler.cudagraph_mark_step_begin()


def outliving(step: PartStep) -> PartStep:
    """What a part reports, in memory of its own, to be read after the next steps."""
    copies: dict[str, Any] = {
        name: value.clone() for name, value in vars(step).items() if isinstance(value, torch.Tensor)
    }
    penalties = {name: value.clone() for name, value in step.penalties.items()}
    return replace(step, **copies, penalties=penalties)


def _backend(name: str) -> Callable[..., Any]:
    """A backend by its name.

    Raises:
        UsageError: torch has no such backend.
    """
    try:
        found: Callable[..., Any] = lookup_backend(name)
    except InvalidBackend as error:
        known = ", ".join(torch.compiler.list_backends())
        raise UsageError(f"torch.compile has no backend {name!r}: it has {known}") from error
    return found


def _rows(shapes: tuple[torch.Size, ...]) -> int:
    return next((shape[0] for shape in shapes if len(shape)), 0)


def own_code(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A function with code of its own.

    torch.compile keeps what it compiled with the code, and gives up after a few, so parts that
    ran the same code would not all be compiled.

    Args:
        function: What it calls.
        name: The name of its code.
    """

    def calling(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    code: CodeType = calling.__code__.replace(co_name=name, co_qualname=name)
    return FunctionType(code, calling.__globals__, name, None, calling.__closure__)


@contextmanager
def own_sessions() -> Iterator[None]:
    """While active, compilers that torch starts are in sessions of their own.

    A signal to the group of processes, such as Ctrl-C, then reaches this process alone, which
    can end its step.
    """

    def starting(start: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            return start(*args, **{**kwargs, "start_new_session": True})

        return run

    stand_in = SimpleNamespace(**vars(subprocess))
    for name in _STARTS:
        setattr(stand_in, name, starting(getattr(subprocess, name)))
    with ExitStack() as stack:
        for name in _STARTING_PROCESSES:
            module = importlib.import_module(name)
            stack.enter_context(mock.patch.object(module, "subprocess", stand_in))
        yield
