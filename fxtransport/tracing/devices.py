"""The device that the model's code sees while it runs on the meta device: that of the model."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._device import DeviceContext, _device_constructors
from torch.utils._python_dispatch import _disable_current_modes

from fxtransport.tracing.constants import Constants
from fxtransport.tracing.leaves import leaves_of

META = torch.device("meta")
_MOVES = frozenset({"to", "cpu", "cuda", "type"})


class PretendDevice(DeviceContext):
    """A mode in which tensors are made on the meta device, and code is told another one.

    Args:
        device: What it is told.
        constants: Is told the values of tensors that are made of numbers.
    """

    def __init__(self, device: torch.device, constants: Constants) -> None:
        super().__init__(META)
        self.told = device
        self.constants = constants
        self._constructors = _device_constructors()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "__get__":
            found = self._told(func.__self__.__name__)
            return func(*args) if found is None else found
        if func is torch.tensor and kwargs.get("device") is None:
            return self._made(args, kwargs)
        if name == "type" and len(args) == 1 and not kwargs:
            return self._type(args[0])
        if name in _MOVES and args and isinstance(args[0], torch.Tensor):
            args = _moved(name, args)
            if len(args) == 1 and not kwargs:
                return args[0]
        if kwargs.get("device") is not None:
            if func is not torch.device:
                kwargs = {**kwargs, "device": META}
        elif func in self._constructors:
            kwargs = {**kwargs, "device": META}
        return func(*args, **kwargs)

    def _made(self, args: Any, kwargs: dict[str, Any]) -> torch.Tensor:
        """A tensor of numbers that the code gives, which are known."""
        made: torch.Tensor = torch.tensor(*args, **{**kwargs, "device": META})
        if not any(isinstance(leaf, torch.Tensor) for leaf in leaves_of(args)):
            with _disable_current_modes():
                self.constants.add(made, torch.tensor(*args, **kwargs).detach())
        return made

    def _type(self, tensor: torch.Tensor) -> str:
        """The name of a tensor's type, as on the device that code is told."""
        with _disable_current_modes():
            return torch.empty(0, dtype=tensor.dtype, device=self.told).type()

    def _told(self, name: str) -> Any:
        if name == "device":
            return self.told
        if name == "is_meta":
            return False
        if name in ("is_cuda", "is_cpu"):
            return self.told.type == name.removeprefix("is_")
        return None


class DefaultDevice(TorchFunctionMode):
    """A mode in which tensors are made on a device that may vary.

    Args:
        device: The proxy of the device.
    """

    def __init__(self, device: Any) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _device_constructors() and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": self.device}
        return func(*args, **kwargs)


def _is_device(value: Any) -> bool:
    if isinstance(value, torch.device):
        return True
    return isinstance(value, str) and value.partition(":")[0] in ("cpu", "cuda", "meta", "mps")


def _moved(name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a method that moves a tensor, which stays where it is."""
    if name in ("cpu", "cuda"):
        return args[:1]
    return (args[0], *(a for a in args[1:] if not _is_device(a)))
