"""Calls that the model's code makes in a context: ``torch.no_grad``, ``torch.autocast``."""

import operator
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import fx, nn

from fxtransport.casts import drop_casts, keep_casts
from fxtransport.runtime import (
    ITSELF,
    Conditional,
    assign,
    call_under_autocast,
    call_with_gradient,
    call_without_gradient,
    gradients_enabled,
    guard,
    set_mode,
    under_autocast,
    with_gradient,
    without_gradient,
)
from fxtransport.tracing.interface import Tracer
from fxtransport.tracing.leaves import leaves_of
from fxtransport.tracing.sites import attribute_of

_PASSIVE = (
    keep_casts,
    drop_casts,
    getattr,
    guard,
    gradients_enabled,
    len,
    tuple,
    assign,
    operator.getitem,
    operator.not_,
)
"""What does the same in every context."""
_NO_TENSORS = (keep_casts, drop_casts, guard, len, tuple, assign, set_mode)
"""What computes the same with and without gradients."""
_VIEWS = frozenset(("T", "mT", "H", "mH", "real", "imag"))
"""The attributes of a tensor that are tensors with its gradient."""

Island = tuple[Any, Any, bool, Any]
"""The arguments of ``torch.autocast``: device type, dtype, whether enabled, cached."""


class Contexts:
    """The contexts that traced code has entered."""

    def __init__(self) -> None:
        self.islands: list[Island] = []
        self.entered_autocast = False

    def applied(
        self, tracer: Tracer, kind: str, target: Any, args: tuple[Any, ...]
    ) -> tuple[str, Any, tuple[Any, ...]]:
        """A call as it is made in the contexts that are entered."""
        if not kind.startswith("call_"):
            return kind, target, args
        enabled = torch.is_grad_enabled()
        if (tracer.forced_gradients or not enabled) and _may_differentiate(target, args):
            wrap, call = (
                (with_gradient, call_with_gradient)
                if enabled
                else (without_gradient, call_without_gradient)
            )
            kind, target, args = _wrapped(tracer, kind, target, args, wrap, call)
        if self.islands and not _is_passive(target):
            islands = tuple(self.islands)
            kind, target, args = _wrapped(
                tracer, kind, target, args, under_autocast, call_under_autocast
            )
            args = (islands, *args)
        return kind, target, args

    @contextmanager
    def seen(self, tracer: Tracer) -> Iterator[None]:
        """While active, autocast that traced code enters becomes part of nodes."""

        def begin(context: Any, *args: Any, **kwargs: Any) -> None:
            context.island = _island(*args, **kwargs)

        def enter(context: Any) -> Any:
            if not tracer.evaluating:
                self.entered_autocast = True
                if not self.islands:
                    tracer.create_node("call_function", keep_casts, (), {})
                self.islands.append(_island_of(context))
            return context

        def leave(*_: Any) -> bool:
            if not tracer.evaluating:
                self.islands.pop()
                if not self.islands:
                    tracer.create_node("call_function", drop_casts, (), {})
            return False

        with patched_autocast(begin, enter, leave):
            yield


@contextmanager
def patched_autocast(
    begin: Callable[..., None], enter: Callable[..., Any], leave: Callable[..., bool]
) -> Iterator[None]:
    """Replace what ``torch.autocast`` does; on the meta device it would do nothing."""
    cls = torch.amp.autocast_mode.autocast
    with ExitStack() as stack:
        for name, function in (("__init__", begin), ("__enter__", enter), ("__exit__", leave)):
            stack.enter_context(mock.patch.object(cls, name, function))
        yield


@contextmanager
def without_autocast() -> Iterator[None]:
    """While active, ``torch.autocast`` does nothing, as on the meta device."""
    with patched_autocast(lambda *_, **__: None, lambda context: context, lambda *_: False):
        yield


def remove_spare_casts(graph: fx.Graph, model: nn.Module) -> None:
    """Let autocast keep casts only where a weight is used more than once meanwhile."""
    first: fx.Node | None = None
    used: list[int] = []
    for node in list(graph.nodes):
        target = node.target.function if isinstance(node.target, Conditional) else node.target
        if target is keep_casts:
            first, used = node, []
        elif target is drop_casts:
            if first is not None and len(used) == len(set(used)):
                graph.erase_node(first)
                graph.erase_node(node)
            first = None
        elif first is not None and node.op.startswith("call_"):
            used += _weights_of(node, model)


def _weights_of(node: fx.Node, model: nn.Module) -> set[int]:
    """The parameters that a node is given, also in modules, by identity."""
    targets = [str(n.target) for n in node.all_input_nodes if n.op == "get_attr"]
    found: set[int] = set()
    for target in [*targets, *([str(node.target)] if node.op == "call_module" else [])]:
        if not target.endswith(ITSELF):
            value = attribute_of(model, target)
            if isinstance(value, nn.Module):
                found.update(map(id, value.parameters()))
            elif isinstance(value, nn.Parameter):
                found.add(id(value))
    return found


def _island(
    device_type: Any, dtype: Any = None, enabled: bool = True, cache_enabled: Any = None
) -> Island:
    return device_type, dtype, enabled, cache_enabled


def _island_of(context: Any) -> Island:
    """The arguments of a context, which may have been made before the trace."""
    found: Island | None = vars(context).get("island")
    if found is not None:
        return found
    return context.device, context.fast_dtype, context._enabled, context._cache_enabled


def _is_passive(target: Any) -> bool:
    return any(target is passive for passive in _PASSIVE)


def _may_differentiate(target: Any, args: tuple[Any, ...]) -> bool:
    """Whether what a call computes may have a gradient."""
    if target is getattr:
        return isinstance(args[0], torch.Tensor) and args[1] in _VIEWS
    if any(target is function for function in _NO_TENSORS):
        return False
    of_python = getattr(target, "__module__", None) == "_operator"
    return not of_python or any(isinstance(leaf, torch.Tensor) for leaf in leaves_of(args))


def _wrapped(
    tracer: Tracer,
    kind: str,
    target: Any,
    args: tuple[Any, ...],
    wrap: Callable[[Any], Any],
    call: Callable[..., Any],
) -> tuple[str, Any, tuple[Any, ...]]:
    if kind == "call_module":
        module = tracer.create_node("get_attr", target, (), {})
        return "call_function", call, (module, *args)
    function = getattr(torch.Tensor, target) if kind == "call_method" else target
    return "call_function", wrap(function), args
