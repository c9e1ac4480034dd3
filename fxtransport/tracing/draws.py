"""Random numbers that traced code draws elsewhere than in torch: a graph would freeze them."""

import ctypes
import pickle
import random
from typing import Any

import numpy as np
import torch
from numpy.random import mtrand
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from fxtransport.tracing.error_context import describe_module
from fxtransport.tracing.identities import holding_attributes
from fxtransport.tracing.interface import Tracer

GENERATORS = (random.Random, np.random.Generator, np.random.RandomState)
"""Objects that draw numbers, other than those of torch."""
_WHAT = (
    "draws from Python's random",
    "draws from numpy.random",
    "sets the seed of torch",
    "changes settings of torch (torch.backends, default dtype)",
)
_MERSENNE_TWISTER = 624 * 4 + 4
"""The bytes of the state of NumPy's first generator: its words and the position."""
_WORDS = 8
_UNLIKELY = 0x5EED_0F_FE1D


class Draws:
    """The generators of the process, as traced code may change them.

    Args:
        tracer: The tracer.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._memory = _Memory()
        self._generators = _generators_of(tracer.root)
        for generator in self._generators.values():
            generator.manual_seed(_UNLIKELY)  # so that it is seen where code sets the same seed
        self._states = self._now()

    def check(self) -> None:
        """Refuse code that has drawn since the last check.

        Raises:
            TraceError: it has.
        """
        now = self._now()
        if now == self._states:
            return
        names = (*_WHAT, *(f"sets the state of {name}" for name in self._generators))
        what = next(w for w, a, b in zip(names, now, self._states, strict=True) if a != b)
        remedy = "draw from torch (torch.rand)" if "draws" in what else "do so outside"
        raise self._tracer.refuse(
            f"{what} in forward, which a graph would freeze",
            f"{remedy}, or move this code to a module without a residual addition, which "
            "keeps its own code",
        )

    def accept(self) -> None:
        """Closed modules may have drawn: at run time they do, too."""
        if not self._memory.is_current():
            self._memory = _Memory()
        self._states = self._now()

    def _now(self) -> tuple[Any, ...]:
        """The states of all generators, and settings."""
        seed = torch.default_generator.initial_seed()
        found = _python_state(), self._memory.state(), seed, _settings()
        if not self._generators:
            return found
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            states = [g.get_state().numpy().tobytes() for g in self._generators.values()]
        return (*found, *states)


def _generators_of(root: nn.Module) -> dict[str, torch.Generator]:
    """The generators of torch that modules hold, by name."""
    return {
        f"self.{name} of {describe_module(root, path)}": value
        for path, module in root.named_modules()
        for name, value in holding_attributes(module)
        if isinstance(value, torch.Generator)
    }


class _Memory:
    """The state of NumPy's generator, as it lies in memory.

    NumPy takes long to make an array of it. A normal number that waits to be drawn lies
    elsewhere; as long as there is one, and for generators other than NumPy's first, the
    state is what NumPy says.
    """

    def __init__(self) -> None:
        self._generator = mtrand.get_bit_generator()
        self._whole: Any = None
        waiting = np.random.get_state(legacy=False)["has_gauss"]
        if type(self._generator) is np.random.MT19937 and not waiting:
            self._whole = self._read()

    def _read(self) -> bytes:
        address: Any = self._generator.ctypes.state_address
        return ctypes.string_at(address, _MERSENNE_TWISTER)

    def is_current(self) -> bool:
        """Whether nothing was drawn since this was made."""
        return self._whole is not None and self.state() == self._whole

    def state(self) -> Any:
        """What changes whenever a number is drawn, or the generator is another one."""
        if mtrand.get_bit_generator() is not self._generator:
            return None
        if self._whole is not None:
            return self._read()
        found: Any = np.random.get_state(legacy=False)
        return pickle.dumps(found)


def _python_state() -> Any:
    """What changes whenever Python's generator draws, or is set.

    A draw changes the position, which is the last word, or all words; a seed, all words.
    """
    _, words, normal = random.getstate()
    return words[:_WORDS], words[-_WORDS:], normal


def _settings() -> tuple[Any, ...]:
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    return (
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
        (cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled()),
        (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
        torch.get_float32_matmul_precision(),
    )
