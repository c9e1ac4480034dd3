"""What programs of the fuzzer may use beyond torch: functions and classes, by name, as text."""

IMPORTS = """\
import collections
import contextlib
import dataclasses
import functools
import math
import operator
import os
import random
import time
import types
import typing
import warnings

import numpy as np
import torch
import torch.utils.checkpoint
from torch import nn
from torch.nn import functional as F
"""

DEFINITIONS = {
    "Sign": """
class Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.sign()

    @staticmethod
    def backward(ctx, g):
        return g
""",
    "Square": """
class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(x)
        ctx.scale = scale
        return x * x * scale

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * g * x * ctx.scale, None
""",
    "scripted": """
@torch.jit.script
def scripted(x: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(x) * x
""",
    "scripted_scale": """
@torch.jit.script
def scripted_scale(x: torch.Tensor, scale: float) -> torch.Tensor:
    if x.shape[0] > 3:
        return x * scale
    return x * scale + 1
""",
    "decorated": """
def doubling(function):
    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        return function(*args, **kwargs) * 2

    return wrapped


@doubling
def decorated(x):
    return x.tanh() if x.shape[0] > 1 else x.sigmoid()
""",
    "scaled": """
def scaled(x, *args, scale=1.0, **kwargs):
    return x * scale + len(args) + len(kwargs)
""",
    "half": """
def halving(scale):
    def half(x):
        return x * scale

    return half


half = halving(0.5)
""",
    "cached": """
@functools.lru_cache
def cached(n):
    return 1.0 / (n + 1)
""",
    "remember": """
@functools.lru_cache
def table(n, device):
    return torch.arange(n, device=device) / 8


def remember(x):
    return x + table(x.shape[-1], x.device)
""",
    "rate": """
def rate(n: int, m: int = 2) -> float:
    if n > m:
        return m / n
    return n / (n + m)
""",
    "Pair": """
class Pair(typing.NamedTuple):
    first: torch.Tensor
    second: torch.Tensor
""",
    "State": """
@dataclasses.dataclass
class State:
    hidden: torch.Tensor
    scale: float = 1.0
    mask: torch.Tensor | None = None
""",
    "ThroughState": """
class ThroughState(nn.Module):
    def forward(self, state):
        return dataclasses.replace(state, hidden=state.hidden * state.scale)
""",
    "ThroughPair": """
class ThroughPair(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, pair):
        first, second = pair
        return first * self.scale, second
""",
    "Gate": """
class Gate(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.calls = 0

    def forward(self, x, scale=1.0):
        self.calls += 1
        y = self.layer(x)
        return y * scale if x.shape[0] > 2 else y.sigmoid() * x
""",
    "AddNorm": """
class AddNorm(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, hidden, skip):
        return self.norm(hidden + skip)
""",
    "Inner": """
class Inner(nn.Module):
    def __init__(self, layer, scale=0.5):
        super().__init__()
        self.layer = layer
        self.scale = scale

    def forward(self, x, mask=None):
        y = self.layer(x)
        if mask is not None:
            y = y * mask
        if self.training and self.scale > 2:
            return y
        return x + self.scale * y
""",
    "Around": """
class Around(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x, module, *, times=1):
        for _ in range(times):
            x = x + module(x) * self.gain
        return x
""",
    "applied": """
def applied(module, x, times=1):
    for _ in range(times):
        x = module(x)
    return x
""",
    "pieces_of": """
def pieces_of(x, dim, count=2):
    return torch.cat([piece * (1 + k) for k, piece in enumerate(x.chunk(count, dim))], dim)
""",
    "summed": """
def summed(*tensors, scale):
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor * scale
    return total
""",
    "keyword_only": """
def keyword_only(x, /, *, scale=1.0, shift=None):
    x = x * scale
    return x if shift is None else x + shift
""",
    "checked": """
def checked(x):
    if not isinstance(x, torch.Tensor):
        raise TypeError(type(x).__name__)
    size = tuple(x.shape)
    if len(size) != x.ndim or min(size) < 1:
        raise ValueError(f"wrong size {size}")
    return x
""",
    "frozen": """
@torch.no_grad()
def frozen(x):
    return x.tanh() * 0.5
""",
    "scope": """
@contextlib.contextmanager
def scope(value):
    yield value
""",
    "twice": """
def twice(module, inputs, output):
    return output * 2
""",
    "shifted": """
def shifted(module, inputs):
    return (inputs[0] + 0.5, *inputs[1:])
""",
}
USES = {
    "ThroughState": ("State",),
}
"""Definitions that need others before them."""
