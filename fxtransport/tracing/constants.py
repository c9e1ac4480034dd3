"""The values of tensors that follow from sizes alone, such as masks made of ``torch.arange``.

A forward on the meta device has no values. Those that depend on no input, parameter or random
number are computed on the CPU as well, so that code may look at them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
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
_CPU = torch.device("cpu")


class DataDependentError(RuntimeError):
    """A forward pass on the meta device needs the values of a tensor."""


class Constants:
    """Real tensors beside those on the meta device. They live as long as this does."""

    def __init__(self) -> None:
        self._real: dict[int, torch.Tensor] = {}
        self._kept: list[torch.Tensor] = []

    def real(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The values of a tensor, on the CPU; None if they are not known."""
        return self._real.get(id(tensor))

    def add(self, tensor: torch.Tensor, real: torch.Tensor) -> None:
        """A tensor has these values."""
        self._real[id(tensor)] = real
        self._kept.append(tensor)

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
        real = self._real
        for tensor in tensors:
            if id(tensor) not in real:
                return None
        if not self._is_known(func, tensors, kwargs):
            return None
        given, named = tree_map_only(torch.Tensor, lambda t: self._real[id(t)], (args, kwargs))
        if "device" in named:
            named["device"] = _CPU
        with _disable_current_modes(), torch.no_grad():
            return func(*given, **named)

    def follow(self, out: Any, real: Any) -> None:
        """The results of an operation have these values, or are not known any more."""
        if real is None and not self._real:
            return
        results = tensors_among(out)
        values = tensors_among(real)
        for result, value in zip(results, values, strict=False):
            self.add(result, value)
        if not values:
            self._forget({id(t) for t in results} & self._real.keys())

    def _forget(self, written: set[int]) -> None:
        """What lies in the memory of these tensors is not known any more."""
        for key in written:
            memory = self._real[key].untyped_storage()._cdata
            gone = [k for k, t in self._real.items() if t.untyped_storage()._cdata == memory]
            for k in gone:
                del self._real[k]

    def _is_known(self, func: Any, tensors: Sequence[torch.Tensor], kwargs: dict[str, Any]) -> bool:
        if torch.Tag.nondeterministic_seeded in func.tags or "empty" in func.name():
            return False
        if not tensors:
            return "device" in kwargs or "dtype" in kwargs
        return all(t.numel() <= _LARGE for t in tensors)


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
        self.constants.follow(out, real)
        return out


@contextmanager
def known_values() -> Iterator[None]:
    """While active, code may look at values of fake tensors that follow from sizes alone."""
    mode = KnownValues()
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
        real = constants.real(tensor)
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
