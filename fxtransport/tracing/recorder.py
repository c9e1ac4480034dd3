"""A recording: every tensor operation of one forward pass, with the module that ran it.

Operations are seen below autograd, as ATen operators, so that control flow is concrete and
composite functions are already taken apart. Values are in single-assignment form: an
operation in place makes a new value, and a tensor that shares its storage is read as a new
value too, which depends on both.
"""

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_map_only

from fxtransport.ir import ALIAS, Call, Op, Recording
from fxtransport.tracing.constants import READS_VALUES, Constants, DataDependentError, on_meta
from fxtransport.tracing.kernels import run_without_data
from fxtransport.tracing.leaves import leaves_of


def tensors_in(value: Any) -> list[torch.Tensor]:
    """The tensors in nested tuples, lists, dicts and dataclasses, in order."""
    found: list[torch.Tensor] = []
    for leaf in leaves_of(value):
        if isinstance(leaf, torch.Tensor):
            found.append(leaf)
        elif is_dataclass(leaf) and not isinstance(leaf, type):
            found.extend(t for f in fields(leaf) for t in tensors_in(getattr(leaf, f.name)))
    return found


@dataclass
class Recorder(TorchDispatchMode):
    """Records the tensor operations that run while it is active.

    Tensors live as long as the recorder, so that no two share an identity; meta tensors cost
    nothing.
    """

    supports_higher_order_operators = True

    ops: list[Op] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    storages: list[int] = field(default_factory=list)
    depends: list[bool] = field(default_factory=list)
    producer: list[int | None] = field(default_factory=list)
    mutators: set[str] = field(default_factory=set)
    observe: Callable[[int, tuple[torch.Tensor, ...]], None] | None = None
    """Called after each operation with its index and the tensors that it read."""
    differentiates: bool = False
    """Whether modules compute gradients in their forward, and so are given gradients."""
    failed_path: str | None = None
    """The path of the innermost module whose forward raised."""

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._value: dict[int, int] = {}
        self._kept: list[torch.Tensor] = []
        self._storage: dict[int, int] = {}
        self._written: dict[int, int] = {}
        self._stack: list[int] = []
        self.constants = Constants()
        self._same: dict[int, torch.Tensor] = {}
        self._elsewhere: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def mark_inputs(self, inputs: Sequence[torch.Tensor]) -> None:
        """Declare the model's inputs, on which other values depend."""
        for x in inputs:
            self._new_value(x, depends=True, producer=None)

    def finish(self, returned: Any) -> Recording:
        """What was recorded of a forward pass that returned this."""
        outputs = tuple(map(self._read, tensors_in(returned)))
        uses: list[list[int]] = [[] for _ in self.shapes]
        for i, op in enumerate(self.ops):
            for value in op.inputs:
                uses[value].append(i)
        return Recording(
            tuple(self.ops),
            tuple(self.calls),
            tuple(self.producer),
            tuple(self.shapes),
            tuple(self.storages),
            tuple(self.depends),
            tuple(tuple(u) for u in uses),
            outputs,
            frozenset(self.mutators),
            self.differentiates,
        )

    @contextmanager
    def calling(self, path: str, arguments: Any) -> Iterator[None]:
        """The operations inside belong to a run of the module at ``path``."""
        given = (t for t in tensors_in(arguments) if not is_functorch_wrapped_tensor(t))
        inputs = frozenset(map(self._read, given))
        parent = self._stack[-1] if self._stack else None
        self.calls.append(Call(path, parent, len(self.ops), inputs))
        self._stack.append(len(self.calls) - 1)
        returned = False
        try:
            yield
            returned = True
        finally:
            self._stack.pop()
            if not returned and self.failed_path is None:
                self.failed_path = path

    def _run(self, func: Any, args: Any, kwargs: dict[str, Any], real: Any) -> Any:
        """What an operation computes on the meta device, or of known values."""
        name = func.overloadpacket.__name__
        if name in READS_VALUES:
            if real is None:
                raise DataDependentError(f"the value of a tensor is asked for ({name})")
            for tensor in tensors_in((args, kwargs)):
                self.constants.asked(tensor)
            return on_meta(real)
        try:
            return run_without_data(func, args, kwargs)
        except NotImplementedError as error:  # for one, a mask as an index
            if real is not None:
                return on_meta(real)
            if func.namespace != "aten":
                raise  # an operator of others, or a quantized one
            raise DataDependentError(f"the value of a tensor is asked for ({name})") from error

    def same_value(self, tensor: torch.Tensor, other: torch.Tensor) -> None:
        """Another object has the value of a tensor."""
        self._same[id(other)] = self._same.get(id(tensor), tensor)
        self.constants.add_same(tensor, other)
        self._kept.append(other)

    @property
    def current_call(self) -> int | None:
        """The number of the module call that is running."""
        return self._stack[-1] if self._stack else None

    @property
    def current_path(self) -> str:
        """The path of the module that is running."""
        return self.calls[self._stack[-1]].path if self._stack else ""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        # unseen by modes that tell code of another device
        with torch._C.DisableTorchFunction():
            if isinstance(func, HigherOrderOperator):
                return self._dispatch_whole(func, args, kwargs or {})
            return self._dispatch(func, args, kwargs or {})

    def _dispatch_whole(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """An operator that is given functions, such as ``torch.cond``, as one operation."""
        inputs = tuple(self._read(t) for t in tensors_in((args, kwargs)))
        if func is torch.ops.higher_order.cond:
            _, true, _, operands = args  # both functions return tensors of the same shapes
            out = true(*operands)
        else:
            out = func(*args, **kwargs)
        depends = any(self.depends[v] for v in inputs)
        index = len(self.ops)
        outputs = [self._new_value(t, depends=depends, producer=index) for t in tensors_in(out)]
        self.ops.append(Op(func.name(), inputs, tuple(outputs), self._stack[-1]))
        return out

    def _dispatch(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        tensors = tuple(tensors_in((args, kwargs) if kwargs else args))
        if "device" in kwargs or not all(t.is_meta for t in tensors):
            args, kwargs = self._on_meta(args, kwargs)
            tensors = tuple(tensors_in((args, kwargs)))
        name = func.overloadpacket.__name__
        inputs = tuple(self._read(t) for t in tensors)
        depends = any(self.depends[v] for v in inputs)
        real = None if depends else self.constants.computed(func, tensors, args, kwargs)
        out = self._run(func, args, kwargs, real)
        if not isinstance(out, torch.Tensor) and name in READS_VALUES and not tensors_in(out):
            return out
        self.constants.follow(func, tensors, out, real)
        index = len(self.ops)
        outputs, writes = [], False
        for t in (out,) if isinstance(out, torch.Tensor) else tensors_in(out):
            t = self._same.get(id(t), t)  # noqa: PLW2901
            written = id(t) in self._value
            value = self._new_value(t, depends=depends, producer=index)
            outputs.append(value)
            if written:
                writes = True
                self._written[self._storage[id(t)]] = value
        constants = tuple(a for a in args if not _holds_tensors(a))
        keywords = {k: v for k, v in kwargs.items() if isinstance(v, int | float)}
        self.ops.append(
            Op(name, inputs, tuple(outputs), self._stack[-1], constants, writes, keywords)
        )
        if self.observe is not None:
            self.observe(index, tensors)
        return out

    def _on_meta(self, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Arguments on the meta device, where the example is: constants of the code may not be."""
        if kwargs.get("device") is not None:
            kwargs = {**kwargs, "device": torch.device("meta")}
        moved: tuple[Any, dict[str, Any]] = tree_map_only(torch.Tensor, self._moved, (args, kwargs))
        return moved

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_meta:
            return tensor
        if id(tensor) not in self._elsewhere:
            with _disable_current_modes():
                moved = tensor.detach().to("meta")
            self._elsewhere[id(tensor)] = (tensor, moved)
            self.constants.add(moved, tensor.detach())
        return self._elsewhere[id(tensor)][1]

    def _read(self, tensor: torch.Tensor) -> int:
        """The value that a tensor has now."""
        tensor = self._same.get(id(tensor), tensor)
        value = self._value.get(id(tensor))
        if value is None:
            return self._new_value(tensor, depends=False, producer=None)
        written = self._written.get(self._storage[id(tensor)])
        if written is None or written <= value:
            return value
        depends = self.depends[value] or self.depends[written]
        merged = self._new_value(tensor, depends=depends, producer=len(self.ops))
        call = self._stack[-1] if self._stack else 0
        self.ops.append(Op(ALIAS, (value, written), (merged,), call))
        return merged

    def _new_value(self, tensor: torch.Tensor, *, depends: bool, producer: int | None) -> int:
        value = len(self.shapes)
        self._value[id(tensor)] = value
        with torch._C.DisableTorchFunction():  # not seen by a tracer
            self._storage[id(tensor)] = tensor.untyped_storage()._cdata
            shape = tuple(tensor.shape)
        self._kept.append(tensor)
        self.shapes.append(shape)
        self.storages.append(self._storage[id(tensor)])
        self.depends.append(depends)
        self.producer.append(producer)
        return value


def _holds_tensors(argument: Any) -> bool:
    if isinstance(argument, list | tuple):
        return any(isinstance(inner, torch.Tensor) for inner in argument)
    return isinstance(argument, torch.Tensor)


@contextmanager
def module_calls(recorder: Recorder, root: nn.Module) -> Iterator[None]:
    """Tell a recorder which module of ``root`` runs, while active."""
    paths = {module: path for path, module in root.named_modules()}
    call = nn.Module.__call__

    def recorded_call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if module not in paths:
            return call(module, *args, **kwargs)
        before = leaves_of((args, kwargs))
        with recorder.calling(paths[module], before):
            returned = call(module, *args, **kwargs)
        after = leaves_of((args, kwargs))
        if len(before) != len(after) or any(map(operator.is_not, before, after)):
            recorder.mutators.add(paths[module])
        return returned

    with mock.patch.object(nn.Module, "__call__", recorded_call):
        yield
