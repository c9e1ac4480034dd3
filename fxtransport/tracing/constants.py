"""The values of tensors that follow from sizes alone, such as masks made of ``torch.arange``.

A forward on the meta device has no values. Those that depend on no input, parameter or random
number are computed on the CPU as well, so that code may look at them; small buffers count, too.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch._ops import HigherOrderOperator
from torch._subclasses.fake_tensor import DynamicOutputShapeException
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_map_only

from fxtransport.tracing.leaves import leaves_of

READS_VALUES = frozenset(
    "_local_scalar_dense nonzero masked_select _unique2 unique_dim equal allclose".split()
)
"""Operations whose result is not a tensor, or one whose shape depends on values."""
_LARGE = 1 << 22
"""The number of elements from which on values are not computed."""
_SMALL = 64
"""The number of elements up to which buffers of a model are known."""
_CPU = torch.device("cpu")


class DataDependentError(RuntimeError):
    """A forward pass on the meta device needs the values of a tensor."""


class Constants:
    """Real tensors beside those on the meta device. They live as long as this does.

    Small buffers of the model are known, too, until they are written. What follows from them has
    the value that they have now: code that decides by it is guarded.
    """

    def __init__(self) -> None:
        self._real: dict[int, torch.Tensor] = {}
        self._kept: list[torch.Tensor] = []
        self._held: dict[int, torch.Tensor] = {}
        """Tensors of the model that nothing has looked at."""
        self._sources: dict[int, frozenset[int]] = {}
        """The tensors of the model that values follow from."""
        self._asked: set[int] = set()

    def hold(self, model: nn.Module, shadow: nn.Module) -> None:
        """Know the small buffers, and other tensors that are no parameters, of a model.

        Args:
            model: The model, whose tensors have data.
            shadow: Its copy, of whose tensors the values are asked for.
        """
        copies = dict(shadow.named_modules())
        for path, module in model.named_modules():
            copied = copies.get(path, module)  # copies of a module may be made its own way
            pairs: Any = ((module._buffers, copied._buffers), (vars(module), vars(copied)))
            for of, to in pairs:
                for name, tensor in of.items():
                    copy = to.get(name)
                    if isinstance(copy, torch.Tensor) and _is_small(tensor):
                        self._held.setdefault(id(copy), tensor)
                        self._kept.append(copy)

    def real(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The values of a tensor, on the CPU; None if they are not known."""
        held = self._held.pop(id(tensor), None)
        if held is not None:
            with _disable_current_modes(), torch._C.DisableTorchFunction(), torch.no_grad():
                self.add(tensor, held.to(device=_CPU, copy=True))
            self._sources[id(tensor)] = frozenset((id(tensor),))
        return self._real.get(id(tensor))

    def asked(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The values of a tensor, which code asks for; None if they are not known."""
        real = self.real(tensor)
        self._asked |= self._sources.get(id(tensor), frozenset())
        return real

    def add(self, tensor: torch.Tensor, real: torch.Tensor) -> None:
        """A tensor has these values."""
        self._real[id(tensor)] = real
        self._kept.append(tensor)

    def add_same(self, tensor: torch.Tensor, other: torch.Tensor) -> None:
        """Another object is a tensor of the same memory."""
        real = self.real(tensor)
        if real is not None:
            self.add(other, real)
            self._sources[id(other)] = self._sources.get(id(tensor), frozenset())

    def computed(
        self, func: Any, tensors: Sequence[torch.Tensor], args: Any, kwargs: dict[str, Any]
    ) -> Any:
        """What an operation computes on the CPU; None if its inputs are not known.

        Args:
            func: The operation.
            tensors: The tensors among its arguments.
            args: Its arguments.
            kwargs: Its keyword arguments.
        """
        real, held = self._real, self._held
        for tensor in tensors:
            if id(tensor) not in real and id(tensor) not in held:
                return None
        if not self._is_known(func, tensors, kwargs):
            return None
        if func._schema.is_mutable and any(map(self._follows_from_held, tensors)):
            return None
        given, named = tree_map_only(torch.Tensor, self.real, (args, kwargs))
        if "device" in named:
            named["device"] = _CPU
        with _disable_current_modes(), torch.no_grad():
            return func(*given, **named)

    def follow(self, func: Any, tensors: Sequence[torch.Tensor], out: Any, real: Any) -> None:
        """The results of an operation have these values, or are not known any more.

        Args:
            func: The operation.
            tensors: The tensors among its arguments.
            out: Its results.
            real: Their values; None if these are not known.
        """
        if real is None and not func._schema.is_mutable:
            return
        results = tensors_among(out)
        values = tensors_among(real)
        sources = frozenset[int]().union(*(self._sources.get(id(t), ()) for t in tensors))
        for result, value in zip(results, values, strict=False):
            self.add(result, value)
            if sources:
                self._sources[id(result)] = sources
        if not values:
            self._forget({id(t) for t in results})

    def _forget(self, written: set[int]) -> None:
        """What lies in the memory of these tensors is not known any more."""
        gone = {key for key in written if self._held.pop(key, None) is not None}
        for key in written & self._real.keys():
            if key in self._real:
                memory = self._real[key].untyped_storage()._cdata
                same = {k for k, t in self._real.items() if t.untyped_storage()._cdata == memory}
                gone |= same
                for k in same:
                    del self._real[k]
        if gone & self._asked:
            raise DataDependentError("a buffer is written whose values were asked for before")

    def _follows_from_held(self, tensor: torch.Tensor) -> bool:
        return id(tensor) in self._held or bool(self._sources.get(id(tensor)))

    def _is_known(self, func: Any, tensors: Sequence[torch.Tensor], kwargs: dict[str, Any]) -> bool:
        if torch.Tag.nondeterministic_seeded in func.tags or "empty" in func.name():
            return False
        if not tensors:
            return "device" in kwargs or "dtype" in kwargs
        return all(t.numel() <= _LARGE for t in tensors)


def _is_small(tensor: Any) -> bool:
    if type(tensor) is not torch.Tensor or tensor.requires_grad or tensor.is_meta:
        return False
    return tensor.layout is torch.strided and tensor.numel() <= _SMALL


def on_meta(real: Any) -> Any:
    """Values as tensors of the meta device."""
    return tree_map_only(torch.Tensor, lambda t: t.to("meta"), real)


class KnownValues(TorchDispatchMode):
    """Lets code look at values that follow from sizes alone, also of fake tensors."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.constants = Constants()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, HigherOrderOperator):
            return func(*args, **kwargs)
        tensors = tensors_among((args, kwargs))
        real = self.constants.computed(func, tensors, args, kwargs)
        if real is not None and func.overloadpacket.__name__ in READS_VALUES:
            if not isinstance(real, torch.Tensor | tuple):
                return real
            out = tree_map_only(torch.Tensor, torch.clone, real)
        else:
            try:
                out = func(*args, **kwargs)
            except DynamicOutputShapeException:  # for one, a mask as an index
                if real is None:
                    raise
                out = tree_map_only(torch.Tensor, torch.clone, real)
        self.constants.follow(func, tensors, out, real)
        return out


@contextmanager
def known_values(model: nn.Module, shadow: nn.Module) -> Iterator[None]:
    """While active, code may look at values of fake tensors that follow from sizes alone.

    Args:
        model: The model, whose small buffers are known.
        shadow: Its copy, which runs.
    """
    mode = KnownValues()
    mode.constants.hold(model, shadow)
    with mode, _MadeOfNumbers(mode.constants), readable(mode.constants):
        yield


class _MadeOfNumbers(TorchFunctionMode):
    """Sees the tensors that ``torch.tensor`` makes of numbers, which no dispatch mode does."""

    def __init__(self, constants: Constants) -> None:
        super().__init__()
        self.constants = constants

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        if func is torch.tensor and not tensors_among(args):
            with _disable_current_modes():
                self.constants.add(made, torch.tensor(*args, **{**kwargs, "device": _CPU}))
        return made


def tensors_among(values: Any) -> list[torch.Tensor]:
    """The tensors in nested containers."""
    return [leaf for leaf in leaves_of(values) if isinstance(leaf, torch.Tensor)]


@contextmanager
def readable(constants: Constants, is_closed: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """While active, ``tolist`` and ``numpy`` give the values of tensors that are known.

    Args:
        constants: The values.
        is_closed: Whether the code that runs is not traced: traced code's reads are guarded.
    """
    with ExitStack() as stack:
        for name in ("tolist", "numpy"):
            reading = _reading(constants, getattr(torch.Tensor, name), is_closed)
            stack.enter_context(mock.patch.object(torch.Tensor, name, reading))
        yield


def _reading(constants: Constants, read: Any, is_closed: Callable[[], bool]) -> Any:
    def reading(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if not is_closed():
            return read(tensor, *args, **kwargs)
        real = constants.asked(tensor)
        if real is None:
            with torch._C.DisableTorchFunction():
                is_meta = tensor.is_meta
            if is_meta:
                raise DataDependentError(f"a tensor is turned into numbers ({read.__name__})")
            return read(tensor, *args, **kwargs)
        with _disable_current_modes():
            return read(real, *args, **kwargs)

    reading.__name__ = read.__name__
    return reading
