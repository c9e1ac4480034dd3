"""What a node is given for a value of traced code."""

import enum
from collections import OrderedDict
from dataclasses import fields, is_dataclass
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from fxtransport.functions import Constant
from fxtransport.tracing.identities import tensors_with_steps
from fxtransport.tracing.interface import Tracer
from fxtransport.tracing.pieces import Pieces
from fxtransport.tracing.value_proxy import ValueProxy, is_proxy

_CONSTANTS = (
    bool,
    int,
    float,
    complex,
    str,
    type(None),
    type(Ellipsis),
    range,
    torch.dtype,
    torch.device,
    torch.layout,
    torch.memory_format,
    torch.Size,
    enum.Enum,
)


def node_argument(tracer: Tracer, value: Any) -> Any:
    """What a node is given for a value of traced code.

    Raises:
        TraceError: a graph cannot hold it.
    """
    kind = type(value)
    if is_proxy(value) or kind is Pieces:
        return value.node
    if isinstance(value, np.generic):
        return value.item()
    if kind is fx.Node or isinstance(value, _CONSTANTS):
        return value
    found = tracer.node_of(value)
    if found is not None:
        return found
    if isinstance(value, torch.Tensor):
        raise tracer.refuse(
            "uses a tensor that no operation of the graph makes (a global, or made of numpy data)",
            "make it a buffer of a module, or move this code to a module without a residual "
            "addition, which keeps its own code",
        )
    if isinstance(value, nn.Module):
        raise tracer.refuse(
            f"uses a {kind.__name__} that is not a submodule",
            "register it, for example in an nn.ModuleList",
        )
    return _made(tracer, value)


def _made(tracer: Tracer, value: Any) -> Any:
    """A container or object that the graph makes again."""
    if type(value) is slice:
        return slice(*(node_argument(tracer, v) for v in (value.start, value.stop, value.step)))
    if is_dataclass(value) and not isinstance(value, type):
        return _dataclass(tracer, value)
    if isinstance(value, tuple | list | dict | set | frozenset):
        return _container(tracer, value)
    if isinstance(value, type | FunctionType | BuiltinFunctionType) or callable(value):
        return _constant(tracer, value)
    raise _refusal(tracer, value)


def _container(tracer: Tracer, value: Any) -> Any:
    kind = type(value)
    if kind in (tuple, list):
        return kind([node_argument(tracer, v) for v in value])
    if isinstance(value, tuple):  # a named one, made of its fields
        arguments = tuple(value) if hasattr(value, "_fields") else (tuple(value),)
        return tracer.create_node("call_function", kind, arguments, {})
    if kind is dict:
        return {_key(key): node_argument(tracer, v) for key, v in value.items()}
    if isinstance(value, dict) and kind.__init__ in (dict.__init__, OrderedDict.__init__):
        # fx would make a plain dict of it
        return tracer.create_node("call_function", kind, (list(value.items()),), {})
    if kind in (set, frozenset, list):
        return tracer.create_node("call_function", kind, (list(value),), {})
    raise _refusal(tracer, value)


def _key(key: Any) -> Any:
    return key.pinned() if is_proxy(key) else key


def _dataclass(tracer: Tracer, value: Any) -> fx.Node:
    made = {f.name: getattr(value, f.name) for f in fields(value) if f.init}
    return tracer.create_node("call_function", type(value), (), made)


def _constant(tracer: Tracer, value: Any) -> fx.Node:
    """A function or class, which is the same for every input."""
    cells = getattr(value, "__closure__", None) or ()
    held = [cell.cell_contents for cell in cells]
    if not isinstance(value, type | FunctionType):
        held += getattr(value, "__dict__", {}).values()
    if any(isinstance(v, nn.Module | ValueProxy) or list(tensors_with_steps(v)) for v in held):
        name = getattr(value, "__name__", type(value).__name__)
        raise tracer.refuse(
            f"hands on {name}, a function that holds tensors or modules of the code around it",
            "give it what it needs as arguments",
        )
    return tracer.create_node("call_function", Constant(value), (), {})


def _refusal(tracer: Tracer, value: Any) -> Exception:
    name = type(value).__name__
    if isinstance(value, torch.Generator):
        return tracer.refuse(
            "draws from a torch.Generator of its own",
            "draw from torch's default generator, or move this code to a module without a "
            "residual addition, which keeps its own code",
        )
    if isinstance(value, np.ndarray):
        return tracer.refuse("uses a numpy array", "make it a buffer of a module")
    does, use = ("returns", "return") if tracer.is_returning else ("hands on", "use")
    return tracer.refuse(
        f"{does} a {name}, an object of a class of its own, which a graph cannot make",
        f"{use} tensors, tuples, lists, dicts or dataclasses",
    )
