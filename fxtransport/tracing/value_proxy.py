"""A node of a graph in the making, with its value for the example.

It stands for a tensor, number or tuple in the model's own code, and lets that code see what
it would see: shapes, lengths, classes, truth. What the code decides by is guarded.
"""

import operator
import sys
from abc import abstractmethod
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import torch
from torch import fx
from torch.utils._pytree import tree_leaves


class ProxyTracer(fx.Tracer):
    """What a proxy asks of the tracer that made it."""

    values: dict[fx.Node, Any]
    """The example value of every node."""

    @abstractmethod
    def number(self, proxy: "ValueProxy") -> Any:
        """A proxy's value, which must not be a tensor."""

    @abstractmethod
    def pinned(self, proxy: "ValueProxy") -> Any:
        """A proxy's value; the graph refuses inputs for which it is another."""

    @abstractmethod
    def expect_guard(self, proxy: "ValueProxy", frame: FrameType) -> None:
        """A number was asked for: guard it, unless torch only looks at its type."""

    @abstractmethod
    def drop_guards(self, frame: FrameType) -> None:
        """Forget the numbers that the argument parser asked for in this instruction."""


class ValueProxy(fx.Proxy):
    """A node, with its value for the example."""

    tracer: ProxyTracer

    @property
    def example(self) -> Any:
        """The node's value for the example, on the meta device if it is a tensor."""
        return self.tracer.values[self.node]

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """The value's class, so that ``isinstance`` in a model's code sees what it expects."""
        values = self.tracer.values
        return type(values[self.node]) if self.node in values else ValueProxy

    def __getattr__(self, name: str) -> Any:
        if not hasattr(type(self.example), name) and not hasattr(self.example, name):
            raise AttributeError(f"{type(self.example).__name__} has no attribute {name!r}")
        if name == "ndim":
            return self.example.ndim
        if callable(getattr(type(self.example), name, None)):
            return fx.proxy.Attribute(self, name)
        return self.tracer.create_proxy("call_function", getattr, (self, name), {})

    def dim(self) -> int:
        """The number of dimensions, which does not vary."""
        found: int = self.example.dim()
        return found

    def __iter__(self) -> Iterator[Any]:
        return (operator.getitem(self, i) for i in range(len(self.example)))

    def __len__(self) -> int:
        if isinstance(self.example, torch.Tensor):
            size: int = self.shape[0].__index__()
            return size
        return len(self.example)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})

    def __index__(self) -> int:
        frame = sys._getframe(1)
        self.tracer.expect_guard(self, frame)
        return self.tracer.number(self).__index__()  # type: ignore[no-any-return]

    def __int__(self) -> int:
        return int(self.tracer.pinned(self))

    def __float__(self) -> float:
        return float(self.tracer.pinned(self))

    def __contains__(self, item: object) -> bool:
        return any(bool(element == item) for element in self)

    __hash__ = fx.Proxy.__hash__

    def __iadd__(self, other: Any) -> Any:
        return self.in_place(operator.iadd, other)

    def __isub__(self, other: Any) -> Any:
        return self.in_place(operator.isub, other)

    def __imul__(self, other: Any) -> Any:
        return self.in_place(operator.imul, other)

    def __itruediv__(self, other: Any) -> Any:
        return self.in_place(operator.itruediv, other)

    def in_place(self, function: Callable[[Any, Any], Any], other: Any) -> Any:
        """An augmented assignment, which fx itself would turn into one out of place."""
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    @classmethod
    def __torch_function__(
        cls,
        orig_method: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        frame = sys._getframe(1)
        for leaf in tree_leaves((args, kwargs)):
            if type(leaf) is ValueProxy:
                leaf.tracer.drop_guards(frame)
                break
        return super().__torch_function__(orig_method, types, args, kwargs)
