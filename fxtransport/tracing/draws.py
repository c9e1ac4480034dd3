"""Random numbers that traced code draws elsewhere than in torch: a graph would freeze them."""

import random
from typing import Any

import numpy as np
import torch

from fxtransport.tracing.interface import Tracer

GENERATORS = (random.Random, np.random.Generator, np.random.RandomState)
"""Objects that draw numbers, other than those of torch."""


class Draws:
    """The generators of the process, as traced code may change them.

    Args:
        tracer: The tracer.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._states = _states()

    def check(self) -> None:
        """Refuse code that has drawn since the last check.

        Raises:
            TraceError: it has.
        """
        now = _states()
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
        self._states = _states()


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
