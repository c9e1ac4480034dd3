"""From a call of a function of torch to a node.

A function mode sees every call that traced code makes with tensors, and those that make tensors.
"""

import operator
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode, is_tensor_method_or_property
from torch.utils._python_dispatch import _disable_current_modes

from fxtransport.tracing.interface import Tracer
from fxtransport.tracing.value_proxy import is_proxy

_OPERATORS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "__floordiv__": operator.floordiv,
    "remainder": operator.mod,
    "matmul": operator.matmul,
    "pow": operator.pow,
    "neg": operator.neg,
    "__invert__": operator.invert,
    "__and__": operator.and_,
    "__or__": operator.or_,
    "__xor__": operator.xor,
    "__lshift__": operator.lshift,
    "__rshift__": operator.rshift,
    "__eq__": operator.eq,
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "add_": operator.iadd,
    "sub_": operator.isub,
    "mul_": operator.imul,
    "div_": operator.itruediv,
    "__getitem__": operator.getitem,
    "__setitem__": operator.setitem,
}
"""What methods of tensors are, of as many arguments, in readable code."""
_REFLECTED = {
    "__rsub__": operator.sub,
    "__rdiv__": operator.truediv,
    "__rpow__": operator.pow,
    "__rfloordiv__": operator.floordiv,
    "__rmod__": operator.mod,
    "__rmatmul__": operator.matmul,
    "__rlshift__": operator.lshift,
    "__rrshift__": operator.rshift,
}
_READS_TRUTH = frozenset({"__bool__", "__contains__"})
_READS_VALUES = frozenset(
    {"__int__", "__float__", "__index__", "__complex__", "item", "tolist", "numpy", "__array__"}
)
_DIFFERENTIATES = {
    "backward": "differentiates (backward)",
    "grad": "differentiates (torch.autograd.grad)",
    "register_hook": "registers a hook on a tensor",
    "register_post_accumulate_grad_hook": "registers a hook on a tensor",
    "retain_grad": "asks to keep a gradient (retain_grad)",
}
_MEMORY = frozenset(
    "data_ptr storage untyped_storage typed_storage share_memory_ __dlpack__ as_subclass".split()
)
_GRADIENT_PROPERTIES = ("requires_grad", "is_leaf")
_HISTORY = ("grad", "grad_fn", "_grad", "_grad_fn", "output_nr")
_MOVE = "move this code to a module without a residual addition, which keeps its own code"


class TorchCalls(TorchFunctionMode):
    """Makes nodes of calls, while traced code runs.

    Args:
        tracer: The tracer.
    """

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if self.tracer.evaluating:
            return func(*args, **kwargs)
        self.tracer.drop_guards(sys._getframe(1))
        name = getattr(func, "__name__", "")
        if name == "__get__":
            return self._property(func.__self__.__name__, args[0])
        if name == "__set__":
            raise self.tracer.refuse(f"assigns to .{func.__self__.__name__} of a tensor", _MOVE)
        if func is torch.device:
            return self._plain(func, args, kwargs)
        if is_tensor_method_or_property(func) or getattr(torch.Tensor, name, None) is func:
            return self._method(name, args, kwargs)
        if func is torch.autograd.grad:
            raise self.tracer.refuse(_DIFFERENTIATES["grad"], _MOVE)
        return self.tracer.create_proxy("call_function", func, args, kwargs)

    def _plain(self, func: Any, args: Any, kwargs: Any) -> Any:
        """A call that computes no tensor: it is made at once, unless it depends on the input."""
        if any(is_proxy(a) for a in (*args, *kwargs.values())):
            return self.tracer.create_proxy("call_function", func, args, kwargs)
        return func(*args, **kwargs)

    def _property(self, name: str, tensor: torch.Tensor) -> Any:
        if name == "ndim":
            return self.tracer.rank(tensor)
        if name in _GRADIENT_PROPERTIES:
            return self.tracer.ask_gradients(f".{name}") == (name == "requires_grad")
        if name == "is_meta":
            return False
        if name in ("is_cuda", "is_cpu"):
            return self.tracer.device.type == name.removeprefix("is_")
        if name in _HISTORY:
            raise self.tracer.refuse(f"looks at .{name} of a tensor", _MOVE)
        return self.tracer.create_proxy("call_function", getattr, (tensor, name), {})

    def _read(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Values of a tensor, which are known where they follow from sizes alone."""
        known = self.tracer.constant(args[0])
        if known is not None:
            # by that, code decides; for other sizes it may be another value
            with _disable_current_modes(), torch._C.DisableTorchFunction():
                value = seen = getattr(known, name)(*args[1:], **kwargs)
            if name in ("numpy", "__array__"):  # of its own memory, and guarded as a list
                value, seen = value.copy(), value.tolist()
                name, args, kwargs = "tolist", args[:1], {}
            node = self.tracer.create_node("call_method", name, args, kwargs)
            self.tracer.decided(seen, node)
            return value
        if name in _READS_TRUTH:
            raise self.tracer.refuse_data("the truth of a tensor decides")
        raise self.tracer.refuse_data("a tensor is turned into a number")

    def _method(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name in ("dim", "ndimension"):
            return self.tracer.rank(args[0])
        if name in _READS_TRUTH | _READS_VALUES:
            return self._read(name, args, kwargs)
        if name in _DIFFERENTIATES:
            raise self.tracer.refuse(_DIFFERENTIATES[name], _MOVE)
        if name in _MEMORY:
            raise self.tracer.refuse(f"looks at the memory of a tensor ({name})", _MOVE)
        if name in ("__repr__", "__format__", "__str__"):
            return f"<tensor of {tuple(args[0].size())}>"
        if name == "__len__":
            shape = self.tracer.create_proxy("call_function", getattr, (args[0], "shape"), {})
            return shape[0]
        if name in _REFLECTED:
            return self.tracer.create_proxy("call_function", _REFLECTED[name], args[::-1], {})
        function = _OPERATORS.get(name)
        if function is None or kwargs or len(args) != _count(name):
            return self.tracer.create_proxy("call_method", name, args, kwargs)
        made = self.tracer.create_proxy("call_function", function, args, {})
        return None if name == "__setitem__" else made


def _count(name: str) -> int:
    if name == "__setitem__":
        return 3
    return 1 if name in ("neg", "__invert__") else 2
