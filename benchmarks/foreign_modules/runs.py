"""One forward and backward pass of a module of somebody else, and what differs between two."""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree

from foreign_modules import Case
from fxtransport.errors import MODEL_ERRORS, FxTransportError

FAILURES = (FxTransportError, ImportError, OSError, *MODEL_ERRORS)
"""What is taken for an outcome. Anything else ends the process, which counts as a crash."""
NOISE = 1e-5
"""The largest error of a gradient, relative to the largest number, that is float noise."""


@dataclass(frozen=True)
class Run:
    """What one forward and backward pass left."""

    returned: dict[str, Any]
    gradients: dict[str, torch.Tensor]
    buffers: dict[str, torch.Tensor]
    generators: tuple[Any, ...]
    error: BaseException | None = None
    backward_error: str = ""


def leaves(value: Any, path: str = "output", depth: int = 8) -> Iterator[tuple[str, Any]]:
    """The tensors and plain values in what a forward returns, and the classes around them."""
    if isinstance(value, torch.Tensor | str | int | float | bool | torch.dtype | None):
        yield path, value
        return
    yield f"class of {path}", type(value).__qualname__
    if isinstance(value, Mapping):
        inner = {str(key): item for key, item in value.items()}
    elif is_dataclass(value):
        inner = {f.name: getattr(value, f.name) for f in fields(value)}
    elif isinstance(value, list | tuple):
        inner = {str(i): item for i, item in enumerate(value)}
    else:
        inner = dict(vars(value)) if hasattr(value, "__dict__") else {}
    for name, item in inner.items():
        if depth and not callable(item):
            yield from leaves(item, f"{path}.{name}", depth - 1)


def generators() -> tuple[Any, ...]:
    """The states of the global generators."""
    return torch.get_rng_state(), random.getstate(), np.random.get_state()[1:3]


def seed_all(seed: int) -> None:
    """Seed the global generators."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


def call(module: Callable[..., Any], inputs: Any) -> Any:
    """Call a module as its example says."""
    if isinstance(inputs, Mapping):
        return module(**inputs)
    return module(*inputs) if isinstance(inputs, tuple) else module(inputs)


def run(module: nn.Module, forward: Callable[[Any], Any], case: Case, batch: int) -> Run:
    """One forward and backward pass from a seed."""
    seed_all(batch)
    inputs = case.inputs(batch)
    named = leaves(inputs, "input")
    given = {path: x for path, x in named if isinstance(x, torch.Tensor)}
    sources = {path: x.requires_grad_() for path, x in given.items() if x.is_floating_point()}
    sources |= {name: p for name, p in module.named_parameters() if p.requires_grad}
    try:
        # copies, because models may write their input
        returned = forward(_pytree.tree_map_only(torch.Tensor, torch.clone, inputs))
    except FAILURES as error:
        return Run({}, {}, {}, (), error)
    after = generators()
    found = dict(leaves(returned))
    wanted = [t for t in found.values() if isinstance(t, torch.Tensor) and t.requires_grad]
    gradients: dict[str, torch.Tensor] = {}
    backward_error = ""
    if wanted and sources:
        weights = [torch.randn(t.shape, dtype=t.dtype) for t in wanted]
        try:
            grads = torch.autograd.grad(wanted, [*sources.values()], weights, allow_unused=True)
            pairs = zip(sources, grads, strict=True)
            gradients = {name: g for name, g in pairs if g is not None}
        except FAILURES as error:
            backward_error = first_lines(error)
    copies = {k: t.detach().clone() if isinstance(t, torch.Tensor) else t for k, t in found.items()}
    buffers = {name: b.detach().clone() for name, b in module.named_buffers()}
    return Run(copies, gradients, buffers, after, None, backward_error)


def first_lines(error: BaseException) -> str:
    """The class of an error and the first lines of its message."""
    lines = (str(error).strip() or "no message").splitlines()
    return f"{type(error).__name__}: {' '.join(lines[:2])[:400]}"


def same(a: Any, b: Any) -> bool:
    """Whether two leaves are equal, bit for bit; NaN is NaN."""
    if not (isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)):
        return type(a) is type(b) and bool(a == b or (a != a and b != b))
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(a, b) or bool(((a == b) | ((a != a) & (b != b))).all())


def difference(expected: Run, found: Run) -> tuple[str, float]:
    """What differs, or nothing, and the relative error of the gradients."""
    if expected.returned.keys() != found.returned.keys():
        only = sorted(expected.returned.keys() ^ found.returned.keys())
        return f"only one returns {', '.join(only[:3])}", 0.0
    for what, one, other in (
        ("", expected.returned, found.returned),
        ("buffer ", expected.buffers, found.buffers),
    ):
        for name, value in one.items():
            if name not in other or not same(value, other[name]):
                return f"{what}{name} differs", 0.0
    pairs = zip(expected.generators, found.generators, strict=True)
    for name, (one, other) in zip(("torch", "Python", "NumPy"), pairs, strict=True):
        equal = torch.equal(one, other) if name == "torch" else str(one) == str(other)
        if not equal:
            return f"the state of {name}'s generator differs", 0.0
    if found.backward_error and not expected.backward_error:
        return f"backward: {found.backward_error}", 0.0
    return ("", 0.0) if expected.backward_error else _gradients(expected, found)


def _gradients(expected: Run, found: Run) -> tuple[str, float]:
    worst = 0.0
    for name in expected.gradients.keys() | found.gradients.keys():
        e, f = expected.gradients.get(name), found.gradients.get(name)
        e = torch.zeros_like(f) if e is None and f is not None else e
        f = torch.zeros_like(e) if f is None and e is not None else f
        if e is None or f is None or same(e, f):
            continue
        if e.shape != f.shape or e.dtype != f.dtype:
            return f"gradient of {name} has another shape or dtype", worst
        scale = max(e.abs().max().item(), 1.0)
        error = (e - f).abs().max().item() / scale
        if not error <= NOISE:
            return f"gradient of {name} differs by {error:.2g}", worst
        worst = max(worst, error)
    return "", worst
