"""The value of a node for the example, on the meta device."""

import builtins
import operator
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import fx
from torch.overrides import _get_current_function_mode, _pop_mode_temporarily
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map_only

from fxtransport.runtime import (
    GRADIENT_QUESTIONS,
    UnderAutocast,
    WithGradient,
    WithoutGradient,
)
from fxtransport.tracing.gradients import switch_gradients
from fxtransport.tracing.identities import Identities
from fxtransport.tracing.interface import Tracer
from fxtransport.tracing.recorder import tensors_in
from fxtransport.tracing.sites import attribute_of
from fxtransport.tracing.torch_calls import TorchCalls

_PYTHON = {name: getattr(builtins, name) for name in ("len", "min", "max", "callable")}
"""Python's own, in whose place others stand while traced code runs."""
_LOOKS = (operator.getitem, getattr)
"""What reads a structure, which holds the very tensors that traced code has."""


def evaluate(tracer: Tracer, known: Identities, node: fx.Node) -> Any:
    """What a node computes for the example.

    A tensor that was there before is returned as another object, unless the node is an operation
    in place: at run time, what it computes may be a tensor of its own. A module that writes
    ``x.float()``, say, writes ``x`` only where that is no copy.
    """
    args = _value(tracer, node.args)
    kwargs = _value(tracer, node.kwargs)
    with _evaluating(tracer):
        # unseen by modes of torch, for each of which these questions would be calls
        with torch._C.DisableTorchFunction():
            versions = {id(t): _version(t) for t in tensors_in((args, kwargs))}
        value = _run(tracer, node, args, kwargs)
        if node.op == "get_attr" or node.target in _LOOKS:
            return value

        def own(leaf: torch.Tensor) -> torch.Tensor:
            if leaf not in known:
                return leaf
            with torch._C.DisableTorchFunction():
                written = id(leaf) in versions and _version(leaf) > versions[id(leaf)]
            if written and _returns_what_it_writes(tracer, node):
                return leaf
            return _another(tracer, leaf)

        if isinstance(value, torch.Tensor):
            return own(value)
        if type(value) in (tuple, list, dict):
            return tree_map_only(torch.Tensor, own, value)
        return value


def _returns_what_it_writes(tracer: Tracer, node: fx.Node) -> bool:
    """Whether a node that writes a tensor returns that very tensor, whatever its dtype."""
    if node.op == "call_module":
        module = tracer.root.get_submodule(str(node.target))
        is_layer = type(module).__module__.startswith("torch.nn.modules.")
        return is_layer and not module._modules and not module._forward_hooks
    target: Any = node.target
    while isinstance(target, UnderAutocast | WithGradient | WithoutGradient):
        target = target.function
    module_name = str(getattr(target, "__module__", None) or "torch")
    return module_name.partition(".")[0] in ("torch", "_operator", "builtins")


def _version(tensor: torch.Tensor) -> int:
    """How often a tensor was written, which those of inference mode do not count."""
    return 0 if tensor.is_inference() else tensor._version


def _another(tracer: Tracer, tensor: torch.Tensor) -> torch.Tensor:
    """Another object for the same tensor."""
    with _disable_current_modes():
        other = tensor.detach()
    tracer.recorder.same_value(tensor, other)
    return other


@contextmanager
def _evaluating(tracer: Tracer) -> Iterator[None]:
    before, tracer.evaluating = tracer.evaluating, True
    gradients = torch.is_grad_enabled()
    standing = {name: getattr(builtins, name) for name in _PYTHON}
    switch_gradients(False)
    vars(builtins).update(_PYTHON)
    try:
        yield
    finally:
        vars(builtins).update(standing)
        switch_gradients(gradients)
        tracer.evaluating = before


def _value(tracer: Tracer, argument: Any) -> Any:
    """The value of an argument of a node: that of nodes in it, in containers of their own."""
    if isinstance(argument, fx.Node):
        return tracer.values[argument]
    if isinstance(argument, slice):
        bounds = (argument.start, argument.stop, argument.step)
        return slice(*(_value(tracer, bound) for bound in bounds))
    if isinstance(argument, list):
        return [_value(tracer, inner) for inner in argument]
    if isinstance(argument, dict):
        return {key: _value(tracer, inner) for key, inner in argument.items()}
    if isinstance(argument, tuple) and not isinstance(argument, torch.Size):
        return tuple(_value(tracer, inner) for inner in argument)
    return argument


def _without_calls() -> AbstractContextManager[Any]:
    """A context without the mode that sees the calls of traced code, if that is the last one."""
    is_last = type(_get_current_function_mode()) is TorchCalls
    return _pop_mode_temporarily() if is_last else nullcontext()


def _run(tracer: Tracer, node: fx.Node, args: Any, kwargs: Any) -> Any:
    target: Any = node.target
    if isinstance(kwargs.get("generator"), torch.Generator):
        kwargs["generator"] = None  # it may be of another device
    if target in GRADIENT_QUESTIONS:
        return tracer.gradients
    match node.op:
        case "get_attr":
            return attribute_of(tracer.root, str(target))
        case "call_module":
            module = tracer.root.get_submodule(str(target))
            with _without_calls():
                return module(*args, **kwargs)
        case "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
    return target(*args, **kwargs)
