"""Calls of Python that traced code makes, and that no mode of torch sees."""

import builtins
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch._functorch import apis, eager_transforms

from fxtransport.functions import Code, Transformed, apply_function, call_script
from fxtransport.runtime import GRADIENT_QUESTIONS, gradients_enabled, set_mode
from fxtransport.tracing.autograd_functions import seen_by_class
from fxtransport.tracing.error_context import is_own
from fxtransport.tracing.gradients import (
    AMBIENT,
    is_context,
    switch_gradients,
    switch_where_differentiated,
)
from fxtransport.tracing.interface import Tracer
from fxtransport.tracing.leaves import leaves_of
from fxtransport.tracing.value_proxy import is_proxy

_CLASS_OF_FUNCTIONS = type(torch.autograd.Function)
_len, _min, _max, _callable = len, min, max, callable
_WITH_LENGTH = frozenset({tuple, list, dict, str, torch.Size})
"""What code asks most often for its length."""
_TRANSFORMS = (
    (apis, "vmap_impl"),
    (eager_transforms, "grad_impl"),
    (eager_transforms, "grad_and_value_impl"),
    (eager_transforms, "_vjp_with_argnums"),
    (eager_transforms, "_jvp_with_argnums"),
)
_QUESTIONS = ("is_autocast_enabled", "is_autocast_cpu_enabled", "get_autocast_dtype")
_SEEDING = tuple(
    (owner, name)
    for owner in (torch, torch.random)
    for name in "manual_seed seed fork_rng get_rng_state set_rng_state initial_seed".split()
    if hasattr(owner, name)
)
_SIZES_OF_TENSORS = (
    "view reshape expand permute repeat tile flip new_zeros new_ones new_empty resize_ sum_to_size"
).split()
_SIZES = "zeros ones empty rand randn".split()
"""What takes sizes one by one, which torch's parser wants to be numbers."""


@contextmanager
def patched(tracer: Tracer) -> Iterator[None]:
    """While active, traced code's calls of modules, functions of autograd and such are nodes."""
    with ExitStack() as stack:
        patches: list[tuple[Any, str, Any]] = [
            (nn.Module, "__call__", _call_module(tracer)),
            (nn.Module, "train", _train(tracer)),
            (nn.Module, "register_parameter", _register_parameter(tracer)),
            (nn.Parameter, "__new__", _make_parameter(tracer)),
            (torch.autograd.Function, "apply", _apply(tracer)),
            (_CLASS_OF_FUNCTIONS, "__getattribute__", seen_by_class(tracer, type.__getattribute__)),
            (torch.jit.ScriptFunction, "__call__", _call_script(tracer)),
            (torch, "finfo", _unless_plain(tracer, torch.finfo)),
            (torch, "iinfo", _unless_plain(tracer, torch.iinfo)),
            (torch, "is_grad_enabled", _is_grad_enabled(tracer)),
            (torch._C, "_set_grad_enabled", _set_grad_enabled(tracer)),
            *((torch, name, _question(tracer, getattr(torch, name))) for name in _QUESTIONS),
            *(
                (owner, name, _refuse_seeding(tracer, getattr(owner, name), name))
                for owner, name in _SEEDING
            ),
            (torch, "cond", _refuse_choice(tracer)),
            (builtins, "len", _length),
            (builtins, "min", _extreme(tracer, _min)),
            (builtins, "max", _extreme(tracer, _max)),
            (builtins, "callable", _is_callable),
            (builtins, "globals", _refuse_globals(tracer)),
        ]
        patches += [
            (torch.Tensor, name, _sizes(tracer, getattr(torch.Tensor, name), "call_method", name))
            for name in _SIZES_OF_TENSORS
        ]
        for name in _SIZES:
            function = getattr(torch, name)
            patches.append((torch, name, _sizes(tracer, function, "call_function", function)))
        for module, name in _TRANSFORMS:
            if hasattr(module, name):
                patches.append((module, name, _transform(tracer, getattr(module, name))))
        for owner, name, function in patches:
            stack.enter_context(mock.patch.object(owner, name, function))
        yield


def _call_module(tracer: Tracer) -> Callable[..., Any]:
    call = nn.Module.__call__

    def calling(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return tracer.call_module(call, module, args, kwargs)

    return calling


def _train(tracer: Tracer) -> Callable[..., Any]:
    """``module.eval()`` in a forward sets modes at run time, too."""
    train = nn.Module.train

    def training(module: nn.Module, mode: Any = True) -> Any:
        node = None if tracer.evaluating else tracer.node_of(module)
        if node is None:
            return train(module, mode)
        mode = mode.pinned() if is_proxy(mode) else mode
        tracer.create_node("call_function", set_mode, (node, mode), {})
        tracer.modes_set(module)
        return module

    return training


def _register_parameter(tracer: Tracer) -> Callable[..., Any]:
    register = nn.Module.register_parameter

    def registering(module: nn.Module, name: str, parameter: Any) -> None:
        if not tracer.evaluating and parameter is not None:
            held = tracer.node_of(parameter)
            if tracer.node_of(module) is None and held is not None and held.op == "get_attr":
                # a view of a container, such as a slice; torch would look at its history
                module._parameters[name] = parameter
                return
            raise tracer.refuse(
                f"makes a {type(module).__name__}, with new parameters in each forward pass",
                "make it in __init__ and assign it to self",
            )
        register(module, name, parameter)

    return registering


def _make_parameter(tracer: Tracer) -> Callable[..., Any]:
    make = nn.Parameter.__new__

    def making(cls: Any, data: Any = None, requires_grad: bool = True) -> Any:
        if tracer.evaluating or data is None:
            return make(cls, data, requires_grad)
        return tracer.create_proxy("call_function", nn.Parameter, (data, requires_grad), {})

    return making


def _apply(tracer: Tracer) -> Any:
    apply = torch.autograd.Function.__dict__["apply"]

    def applying(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if tracer.evaluating:
            return apply.__get__(None, cls)(*args, **kwargs)
        return tracer.create_proxy("call_function", apply_function(cls), args, kwargs)

    return classmethod(applying)


def _call_script(tracer: Tracer) -> Callable[..., Any]:
    call = torch.jit.ScriptFunction.__call__

    def calling(function: Any, *args: Any, **kwargs: Any) -> Any:
        if tracer.evaluating:
            return call(function, *args, **kwargs)
        return tracer.create_proxy("call_function", call_script(function), args, kwargs)

    return calling


def _transform(tracer: Tracer, implementation: Callable[..., Any]) -> Callable[..., Any]:
    """A transform of ``torch.func``, of a function that is called by the node."""

    def transforming(function: Any, *args: Any, **kwargs: Any) -> Any:
        if tracer.evaluating:
            return implementation(function, *args, **kwargs)
        code, variables = _taken_apart(function)
        target = Transformed(implementation, code)
        return tracer.create_proxy("call_function", target, (variables, *args), kwargs)

    return transforming


def _taken_apart(function: Any) -> tuple[Code | None, tuple[Any, ...]]:
    """A function, and what its code reads of the code around it."""
    if not hasattr(function, "__code__"):
        return None, (function,)
    cells = tuple(cell.cell_contents for cell in function.__closure__ or ())
    bound = getattr(function, "__self__", None)
    plain = getattr(function, "__func__", function)
    return Code.of(plain), cells if bound is None else (bound, *cells)


def _unless_plain(tracer: Tracer, function: Any) -> Callable[..., Any]:
    def calling(*args: Any) -> Any:
        if any(is_proxy(a) for a in args):
            return tracer.create_proxy("call_function", function, args, {})
        return function(*args)

    return calling


def _sizes(tracer: Tracer, function: Any, kind: str, target: Any) -> Callable[..., Any]:
    def calling(*args: Any, **kwargs: Any) -> Any:
        if tracer.evaluating or not any(is_proxy(a) for a in args):
            return function(*args, **kwargs)
        return tracer.create_proxy(kind, target, args, kwargs)

    calling.__name__ = function.__name__
    return calling


def _question(tracer: Tracer, function: Any) -> Callable[..., Any]:
    """What is asked of autocast is asked again at run time."""

    def asking(*args: Any, **kwargs: Any) -> Any:
        if tracer.evaluating or not is_own(sys._getframe(1)):
            return function(*args, **kwargs)
        return tracer.create_proxy("call_function", function, args, kwargs)

    return asking


def _refuse_seeding(tracer: Tracer, function: Any, name: str) -> Callable[..., Any]:
    def calling(*args: Any, **kwargs: Any) -> Any:
        if tracer.evaluating or not is_own(sys._getframe(1)):
            return function(*args, **kwargs)
        raise tracer.refuse(
            f"calls torch.{name}, which is about the state of a generator",
            "call it outside of forward, or move this code to a module without a residual "
            "addition, which keeps its own code",
        )

    return calling


def _refuse_globals(tracer: Tracer) -> Callable[[], Any]:
    def calling() -> Any:
        frame = sys._getframe(1)
        if tracer.evaluating or not is_own(frame):
            return frame.f_globals
        raise tracer.refuse(
            "looks up global variables by globals(), which nothing can watch",
            "name the variable, or move this code to a module without a residual addition, which "
            "keeps its own code",
        )

    return calling


def _refuse_choice(tracer: Tracer) -> Callable[..., Any]:
    choose = torch.cond

    def choosing(*args: Any, **kwargs: Any) -> Any:
        if tracer.evaluating:
            return choose(*args, **kwargs)
        raise tracer.refuse(
            "calls torch.cond",
            "compute both branches and choose with torch.where, or move this code to a module "
            "without a residual addition, which keeps its own code",
        )

    return choosing


def _is_grad_enabled(tracer: Tracer) -> Callable[[], Any]:
    """The answer may be handed back to torch; where code decides by it, it is a question."""
    ask = torch.is_grad_enabled

    def asking() -> Any:
        if tracer.evaluating or not ask():
            return ask()
        frame = sys._getframe(1)
        if is_own(frame):
            return tracer.create_proxy("call_function", gradients_enabled, (), {})
        return AMBIENT if is_context(frame) and not tracer.forced_gradients else True

    return asking


def _set_grad_enabled(tracer: Tracer) -> Callable[[Any], None]:
    """Traced code may decide by a number of its input, or set what was before."""
    inside = switch_where_differentiated(differentiates=tracer.recorder.differentiates)

    def switching(mode: Any) -> None:
        if tracer.evaluating:
            inside(mode)
            return
        asked = mode.node.target if is_proxy(mode) else None
        if asked in GRADIENT_QUESTIONS:
            mode = AMBIENT if asked is gradients_enabled else True
        # as they are where the program runs
        ambient = mode is AMBIENT
        enabled = ambient or (mode.pinned() if is_proxy(mode) else mode)
        tracer.forced_gradients = enabled and not ambient
        switch_gradients(enabled)

    return switching


def _length(x: Any) -> Any:
    """``len``, which for a tensor is a node, because it varies with the batch."""
    if type(x) in _WITH_LENGTH:
        return _len(x)
    return x.shape[0] if isinstance(x, torch.Tensor) and not is_proxy(x) else _len(x)


def _is_callable(x: Any) -> bool:
    return _callable(x.example) if is_proxy(x) else _callable(x)


def _extreme(tracer: Tracer, function: Callable[..., Any]) -> Callable[..., Any]:
    """``min`` and ``max``, which of numbers that may vary are nodes."""

    def choosing(*args: Any, **kwargs: Any) -> Any:
        values = args
        if _len(args) == 1 and any(is_proxy(leaf) for leaf in leaves_of(args)):
            values = tuple(args[0])
        if not kwargs and _len(values) > 1 and any(is_proxy(v) for v in values):
            return tracer.create_proxy("call_function", function, values, {})
        return function(*args, **kwargs)

    return choosing
