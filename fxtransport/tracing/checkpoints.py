"""Checkpoints that a model's code makes: ``torch.utils.checkpoint``.

A tracer looks into the function that is checkpointed, and notes which nodes it makes. A program
checkpoints them again, without reentrance: a part is given hidden states without gradients, for
which a reentrant checkpoint has none.
"""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

from torch import fx
from torch.utils import checkpoint

from fxtransport.errors import TraceError
from fxtransport.ir import Checkpoint, Checkpoints
from fxtransport.tracing.interface import Tracer

_GENERATORS = {
    name: inspect.signature(getattr(checkpoint, name))
    for name in (
        "_checkpoint_without_reentrant_generator_impl",
        "_checkpoint_without_reentrant_generator",
    )
    if hasattr(checkpoint, name)
}
"""What checkpoints without reentrance; the name differs between releases of torch."""
_OPTIONS = (
    "preserve_rng_state",
    "determinism_check",
    "debug",
    "early_stop",
    "respect_saved_tensors_hooks",
)


@dataclass
class _Region:
    """A call that traced code makes."""

    path: str
    options: Mapping[str, Any]
    nodes: list[str] = field(default_factory=list)


class Regions:
    """The checkpoints that traced code makes, in the order in which it enters them."""

    def __init__(self) -> None:
        self.found: list[_Region] = []
        self._entered: list[_Region] = []

    def note(self, node: fx.Node) -> None:
        """A node was made."""
        for region in self._entered:
            region.nodes.append(node.name)

    @contextmanager
    def seen(self, tracer: Tracer) -> Iterator[None]:
        """While active, the nodes that a checkpointed function makes are noted."""

        @contextmanager
        def region(options: Mapping[str, Any]) -> Iterator[None]:
            if tracer.evaluating:
                yield
                return
            if "context_fn" in options:
                raise tracer.refuse(
                    "calls torch.utils.checkpoint with a context_fn, which may see each operation",
                    "leave context_fn out, or move this code to a module without a residual "
                    "addition, which keeps its own code",
                )
            self.found.append(_Region(tracer.recorder.current_path, options))
            self._entered.append(self.found[-1])
            try:
                yield
            finally:
                self._entered.pop()

        with patched_checkpoints(region):
            yield


def checkpoints_of(
    in_eval: Regions,
    in_train: Regions | None,
    names: Mapping[str, str],
    conditional: Collection[str],
) -> Checkpoints:
    """The checkpoints of a graph for both modes.

    Args:
        in_eval: Those of the eval trace.
        in_train: Those of the train trace; None if it is the same.
        names: For nodes of the train trace, what they are called in the graph for both modes.
        conditional: The nodes of that graph that run in one mode only.

    Raises:
        TraceError: code that is checkpointed in one mode lies in part in what is in the other.
    """
    alone = [_checkpoint(region) for region in in_eval.found if region.nodes]
    if in_train is None:
        return Checkpoints(tuple(alone))
    shared = frozenset(names.values()) - frozenset(conditional)
    found = []
    for made in [_checkpoint(region, names) for region in in_train.found if region.nodes]:
        both = made.nodes & shared
        alike = (c for c in alone if c.nodes & shared == both and c.options == made.options)
        twin = next(alike, None) if both else None
        if twin is None:
            found.append(replace(made, mode=True))
            continue
        alone.remove(twin)
        found.append(replace(made, nodes=made.nodes | twin.nodes))
    found += [replace(c, mode=False) for c in alone]
    # in each mode those of the other do nothing, so that they may lie inside one another
    found.sort(key=lambda c: -len(c.nodes))
    for i, one in enumerate(found):
        for other in found[i + 1 :]:
            if not (one.nodes.isdisjoint(other.nodes) or other.nodes <= one.nodes):
                raise _differing(other)
    return Checkpoints(tuple(found))


def _checkpoint(region: _Region, names: Mapping[str, str] | None = None) -> Checkpoint:
    nodes = frozenset(region.nodes if names is None else map(names.__getitem__, region.nodes))
    return Checkpoint(region.path, nodes, region.options)


def _differing(found: Checkpoint) -> TraceError:
    return TraceError(
        f"{found.path or 'the model'} checkpoints a function in one mode, a part of which it "
        "checkpoints in the other with what is around it (torch.utils.checkpoint); checkpoint the "
        "same functions in train and eval mode, or in one of them only"
    )


@contextmanager
def patched_checkpoints(
    around: Callable[[Mapping[str, Any]], AbstractContextManager[None]],
) -> Iterator[None]:
    """Run functions that are checkpointed in a context, and save what they save.

    Args:
        around: Makes the context from the options of a call that are not the defaults.
    """

    def apply(function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        options = {} if preserve else {"preserve_rng_state": False}
        # a reentrant one computes the whole function again, and compares nothing
        with around({**options, "determinism_check": "none", "early_stop": False}):
            return function(*args)

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(checkpoint.CheckpointFunction, "apply", apply))
        for name, signature in _GENERATORS.items():
            generator = _generator(signature, around)
            stack.enter_context(mock.patch.object(checkpoint, name, generator))
        yield


def _generator(
    signature: inspect.Signature,
    around: Callable[[Mapping[str, Any]], AbstractContextManager[None]],
) -> Callable[..., Iterator[None]]:
    def generating(*args: Any, **kwargs: Any) -> Iterator[None]:
        given = signature.bind(*args, **kwargs).arguments
        options = {name: given[name] for name in _OPTIONS if name in given}
        if (early_stop := checkpoint._enable_checkpoint_early_stop) is not None:
            options["early_stop"] = early_stop
        defaults = signature.parameters
        options = {k: v for k, v in options.items() if v != defaults[k].default}
        context_fn = given.get("context_fn", checkpoint.noop_context_fn)
        if context_fn is not checkpoint.noop_context_fn:
            options["context_fn"] = context_fn
        with around(options):
            yield

    return generating


@contextmanager
def _nothing(_: Mapping[str, Any]) -> Iterator[None]:
    yield


def without_checkpoints() -> AbstractContextManager[None]:
    """Save what checkpoints would compute again in the backward pass.

    Outputs and gradients are the same. Batch norms are not updated a second time.
    """
    return patched_checkpoints(_nothing)


@contextmanager
def without_reentrance() -> Iterator[None]:
    """Let reentrant checkpoints be what they are in a program.

    They compute the whole function again, as before, and have gradients for inputs without any.
    """

    def apply(function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        return checkpoint.checkpoint(
            function,
            *args,
            use_reentrant=False,
            preserve_rng_state=preserve,
            determinism_check="none",
            early_stop=False,
        )

    with mock.patch.object(checkpoint.CheckpointFunction, "apply", apply):
        yield
