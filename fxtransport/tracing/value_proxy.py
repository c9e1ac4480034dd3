"""A number of the model's own code, in a graph in the making, with its value for the example.

It stands for what is not a tensor and may be another one at run time: a size, a length, a dtype,
a device, a flag, a number that a module holds. It lets code see what it would see: its value's
class, attributes and truth. What the code decides by is guarded. Tensors have no proxies: traced
code is given tensors on the meta device.
"""

import math
import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import torch
from torch import fx

from fxtransport.tracing.devices import DefaultDevice
from fxtransport.tracing.interface import Tracer
from fxtransport.tracing.messages import is_message


class ValueProxy:
    """A node that computes no tensor, with its value for the example.

    Args:
        node: The node.
        tracer: Its tracer.
    """

    def __init__(self, node: fx.Node, tracer: Tracer) -> None:
        self.node = node
        self.tracer = tracer

    @property
    def example(self) -> Any:
        """The node's value for the example."""
        return self.tracer.values[self.node]

    def pinned(self) -> Any:
        """The value, by which code decides: the graph refuses inputs for which it is another."""
        value = self.example
        self.tracer.decided(value, self.node)
        return value

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """The value's class, so that ``isinstance`` in a model's code sees what it expects."""
        return type(self.example)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.example, name)
        if name.startswith("__"):
            return found
        if callable(found):
            return _Method(self, name)
        return self.tracer.create_proxy("call_function", getattr, (self, name), {})

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("node", "tracer"):
            raise AttributeError(f"{type(self.example).__name__} has no attribute {name!r}")
        object.__setattr__(self, name, value)

    def __bool__(self) -> bool:
        value = self.example
        if isinstance(value, bool):
            return bool(self.pinned())
        truth = self.tracer.create_node("call_function", operator.truth, (self,), {})
        self.tracer.decided(bool(value), truth)
        return bool(value)

    def __index__(self) -> int:
        value = self.example
        self.tracer.expect_guard(value, self.node, sys._getframe(1))
        return operator.index(value)

    def __int__(self) -> int:
        return int(self.pinned())

    def __float__(self) -> float:
        return float(self.pinned())

    def __round__(self, digits: int | None = None) -> Any:
        return round(self.pinned(), digits)

    def __str__(self) -> str:
        return str(self._written(sys._getframe(1)))

    def __repr__(self) -> str:
        return repr(self._written(sys._getframe(1)))

    def __format__(self, spec: str) -> str:
        return format(self._written(sys._getframe(1)), spec)

    def _written(self, frame: FrameType) -> Any:
        """The value, for a text: what stands in a message for people is not guarded."""
        return self.example if is_message(frame) else self.pinned()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        import numpy as np

        return np.asarray(self.pinned(), dtype)

    def __hash__(self) -> int:
        return hash(self.pinned())

    def __divmod__(self, other: Any) -> tuple[Any, Any]:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> tuple[Any, Any]:
        return other // self, other % self

    def __deepcopy__(self, memo: object) -> "ValueProxy":
        return self

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # torch's parser of arguments takes what has this method; the calls themselves are
        # seen by the tracer first, unless a model's code switches it off
        raise TypeError(f"{function.__name__} cannot take a number that depends on the input here")


class SequenceProxy(ValueProxy):
    """A node that computes a size, a tuple or a string."""

    def __iter__(self) -> Iterator[Any]:
        return (operator.getitem(self, i) for i in range(len(self.example)))

    def __len__(self) -> int:
        return len(self.example)

    def __contains__(self, item: object) -> bool:
        return any(bool(element == item) for element in self)


@Sequence.register
class TupleProxy(SequenceProxy):
    """A node that computes a size or a tuple, which ``match`` takes apart."""


class DeviceProxy(ValueProxy):
    """A node that computes a device, in whose context tensors may be made."""

    def __enter__(self) -> Any:
        self.__dict__["contexts"] = [*self.__dict__.get("contexts", ()), DefaultDevice(self)]
        self.__dict__["contexts"][-1].__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.__dict__["contexts"].pop().__exit__(*error)


def proxy_of(node: fx.Node, tracer: Tracer) -> ValueProxy:
    """The proxy of a node, which can do what its value can."""
    value = tracer.values[node]
    if isinstance(value, torch.device):
        return DeviceProxy(node, tracer)
    if isinstance(value, tuple):
        return TupleProxy(node, tracer)
    return (SequenceProxy if hasattr(value, "__len__") else ValueProxy)(node, tracer)


def is_proxy(value: object) -> bool:
    """Whether a value is a proxy, whatever it says of its class."""
    return issubclass(type(value), ValueProxy)


class _Method:
    """A method of a proxy's value."""

    def __init__(self, owner: ValueProxy, name: str) -> None:
        self.owner = owner
        self.name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.owner.tracer.create_proxy("call_method", self.name, (self.owner, *args), kwargs)


def _forward(name: str, function: Callable[..., Any], cls: type = ValueProxy) -> None:
    def unary_or_binary(self: ValueProxy, *args: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, *args), {})

    unary_or_binary.__name__ = name
    setattr(cls, name, unary_or_binary)


def _reflect(name: str, function: Callable[..., Any]) -> None:
    def reflected(self: ValueProxy, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (other, self), {})

    reflected.__name__ = name
    setattr(ValueProxy, name, reflected)


_UNARY = ("neg", "pos", "abs", "invert")
_BINARY = "add sub mul truediv floordiv mod pow matmul lshift rshift and or xor".split()
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
for _name in ("ceil", "floor", "trunc"):
    _forward(f"__{_name}__", getattr(math, _name))
_forward("__getitem__", operator.getitem, SequenceProxy)
for _name in (*_UNARY, *_BINARY, *_COMPARISONS):
    _function = getattr(operator, f"{_name}_" if _name in ("and", "or") else _name)
    _forward(f"__{_name}__", _function)
    if _name in _BINARY:
        _reflect(f"__r{_name}__", _function)
