"""Random numbers that traced code draws elsewhere than in torch: a graph would freeze them."""

import random
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from fxtransport.tracing.error_context import describe_module
from fxtransport.tracing.interface import Tracer

GENERATORS = (random.Random, np.random.Generator, np.random.RandomState)
"""Objects that draw numbers, other than those of torch."""
_UNLIKELY = 0x5EED_0F_FE1D


class Draws:
    """The generators of the process, as traced code may change them.

    Args:
        tracer: The tracer.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._generators = _generators_of(tracer.root)
        for generator in self._generators.values():
            generator.manual_seed(_UNLIKELY)  # so that it is seen where code sets the same seed
        self._states = self._state()

    def check(self) -> None:
        """Refuse code that has drawn since the last check.

        Raises:
            TraceError: it has.
        """
        now = self._state()
        for what, before in self._states.items():
            if now[what] != before:
                remedy = "draw from torch (torch.rand)" if "draws" in what else "do so outside"
                raise self._tracer.refuse(
                    f"{what} in forward, which a graph would freeze",
                    f"{remedy}, or move this code to a module without a residual addition, which "
                    "keeps its own code",
                )

    def accept(self) -> None:
        """Closed modules may have drawn: at run time they do, too."""
        self._states = self._state()

    def _state(self) -> dict[str, Any]:
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            generators = {
                f"sets the state of {name}": generator.get_state().numpy().tobytes()
                for name, generator in self._generators.items()
            }
        return _states() | generators


def _generators_of(root: nn.Module) -> dict[str, torch.Generator]:
    """The generators of torch that modules hold, by name."""
    return {
        f"self.{name} of {describe_module(root, path)}": value
        for path, module in root.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, torch.Generator)
    }


def _settings() -> tuple[Any, ...]:
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    return (
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
        (cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled()),
        (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
        torch.get_float32_matmul_precision(),
    )


def _states() -> dict[str, Any]:
    numpy_state: Any = np.random.get_state()
    return {
        "draws from Python's random": random.getstate(),
        "draws from numpy.random": (numpy_state[1].tobytes(), *numpy_state[2:]),
        "sets the seed of torch": torch.default_generator.initial_seed(),
        "changes settings of torch (torch.backends, default dtype)": _settings(),
    }
