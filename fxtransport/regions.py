"""Regions of a generated function whose activations are computed again in the backward pass."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from fxtransport.errors import TrainingError
from fxtransport.lowered import Function
from fxtransport.residue import at_once

Held = tuple[dict[str, Any], str]
"""Where a module keeps a buffer, and the buffer's name."""


class Checkpointed:
    """A region that the model's code checkpoints, and so does a program.

    Never reentrant: a part is given hidden states without gradients, for which a reentrant
    checkpoint has none. What the region writes, such as the statistics of batch norm, is
    written again in the backward pass, as by the model.

    Args:
        name: What generated code calls it.
        function: The region. It takes a module with the model's submodules first.
        options: Keyword arguments of ``torch.utils.checkpoint.checkpoint``.
        measures: Whether residual blocks are measured in it.
    """

    def __init__(
        self, name: str, function: Function, options: Mapping[str, Any], measures: bool
    ) -> None:
        self.function = function
        self.measures = measures
        self.options = dict(options)
        self.__name__ = self.__qualname__ = name

    def __call__(self, enabled: bool, root: nn.Module, *args: Any) -> Any:
        """What the region returns.

        Args:
            enabled: Whether it is checkpointed in the present mode.
            root: Holds the submodules.
            args: The values that enter.
        """
        call = self.function.call
        if not enabled or not torch.is_grad_enabled():
            return call(root, *args)

        def run(*given: Any) -> Any:
            with _readable(self.measures):
                return call(root, *given)

        return checkpoint(run, *map(at_once, args), use_reentrant=False, **self.options)


class CheckpointedBlock:
    """A residual block that is checkpointed for a part, where the model does not.

    Training goes on as without: when the block is computed again, its modules have copies of
    the buffers that they had before, and what is written is thrown away.

    Args:
        name: What generated code calls it.
        function: The region. It takes a module with the model's submodules first.
        paths: The modules and attributes that it refers to.
        measures: Whether residual blocks are measured in it.
    """

    def __init__(self, name: str, function: Function, paths: Sequence[str], measures: bool) -> None:
        self.function = function
        self.measures = measures
        self.paths = tuple(paths)
        self.__name__ = self.__qualname__ = name
        self._written: dict[tuple[bool, ...], frozenset[int]] = {}

    def __call__(self, enabled: bool, root: nn.Module, *args: Any) -> Any:
        """What the region returns.

        Args:
            enabled: Whether it is checkpointed.
            root: Holds the submodules.
            args: The values that enter.

        Raises:
            TrainingError: the block wrote a buffer in this pass and not in the first ones.
        """
        call = self.function.call
        if not enabled or not torch.is_grad_enabled():
            return call(root, *args)

        def run(*given: Any) -> Any:
            with _readable(self.measures):
                return call(root, *given)

        # what a batch norm has saved can be read within the region alone
        args = tuple(map(at_once, args))
        if torch.compiler.is_compiling():
            # a compiled graph writes buffers at its end, not where it computes again
            return checkpoint(run, *args, use_reentrant=False)
        held, modes = _buffers(root, self.paths)
        known = self._written.get(modes)
        before = [buffers[name] for buffers, name in held]
        versions = list(map(_version, before))
        kept = {
            i: tensor.detach().clone()
            for i, tensor in enumerate(before)
            if tensor is not None and (known is None or i in known)
        }
        contexts = (nullcontext(), _Recomputation(held, kept))
        returned = checkpoint(run, *args, use_reentrant=False, context_fn=lambda: contexts)
        after = [buffers[name] for buffers, name in held]
        written = {
            i
            for i, tensor in enumerate(after)
            if tensor is not before[i] or _version(tensor) != versions[i]
        }
        if known is None:
            # batch norm writes its averages, and does not count that
            written |= {i for i, tensor in kept.items() if not _is_equal(tensor, after[i])}
            if not any(map(_has_no_data, kept.values())):
                self._written[modes] = frozenset(written)
            for i in kept.keys() - written:
                del kept[i]
        elif not written <= known:
            names = ", ".join(held[i][1] for i in sorted(written - known))
            raise TrainingError(
                f"{self.__name__} writes {names} in some forward passes and not in others, so it "
                "cannot be computed again; train without checkpoint_activations"
            )
        return returned


def _readable(measures: bool) -> AbstractContextManager[None]:
    """Where blocks are measured, let the measure read what a batch norm has saved."""
    if not measures or torch.compiler.is_compiling():
        return nullcontext()
    hooks: Any = torch._C._autograd._top_saved_tensors_default_hooks(False)
    return nullcontext() if hooks is None else _Readable(*hooks)


class _Readable(AbstractContextManager[None]):
    """Keeps what is saved at hand until the region has run.

    A cost follows from what the autograd node of a batch norm has saved. To read that in a
    checkpoint would run the whole region again.

    Args:
        pack: Makes of a tensor what autograd keeps in its place.
        unpack: Makes the tensor again.
    """

    def __init__(
        self, pack: Callable[[torch.Tensor], Any], unpack: Callable[[Any], torch.Tensor]
    ) -> None:
        saved: dict[int, tuple[Any, torch.Tensor]] = {}

        def keep(tensor: torch.Tensor) -> Any:
            packed = pack(tensor)
            saved[id(packed)] = packed, tensor
            return packed

        def find(packed: Any) -> torch.Tensor:
            return saved[id(packed)][1] if id(packed) in saved else unpack(packed)

        self._saved = saved
        self._hooks = saved_tensors_hooks(keep, find)

    def __enter__(self) -> None:
        self._hooks.__enter__()

    def __exit__(self, *_: object) -> None:
        self._hooks.__exit__()
        self._saved.clear()


class _Recomputation(AbstractContextManager[None]):
    """Lets modules hold the buffers that they had, in copies that may be written.

    Args:
        held: Where the buffers are.
        kept: What they were, by number. May change until the context is entered.
    """

    def __init__(self, held: Sequence[Held], kept: Mapping[int, torch.Tensor]) -> None:
        self.held = held
        self.kept = kept
        self._present: list[tuple[Held, Any]] = []

    def __enter__(self) -> None:
        for i, tensor in self.kept.items():
            buffers, name = self.held[i]
            self._present.append(((buffers, name), buffers[name]))
            buffers[name] = tensor.clone()

    def __exit__(self, *_: object) -> None:
        while self._present:
            (buffers, name), tensor = self._present.pop()
            buffers[name] = tensor


def _buffers(root: nn.Module, paths: Sequence[str]) -> tuple[list[Held], tuple[bool, ...]]:
    """The buffers at some paths, each once, and the modes of their modules."""
    found: list[Held] = []
    modes: list[bool] = []
    seen: set[int] = set()
    for path in paths:
        around, _, name = path.rpartition(".")
        holder = root.get_submodule(around)
        if name in holder._buffers:
            found.append((holder._buffers, name))
        if holder._modules.get(name) is None:
            # a parameter or a plain attribute
            continue
        for module in root.get_submodule(path).modules():
            if id(module) not in seen:
                seen.add(id(module))
                modes.append(module.training)
                found += [(module._buffers, each) for each in module._buffers]
    return found, tuple(modes)


def _version(tensor: torch.Tensor | None) -> int:
    """How often a tensor was written, which those of inference mode do not count."""
    return 0 if tensor is None or tensor.is_inference() else tensor._version


def _has_no_data(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, FakeTensor) or tensor.is_meta


def _is_equal(kept: torch.Tensor, now: torch.Tensor) -> bool:
    """Whether a buffer is what it was, as far as can be known."""
    return not _has_no_data(kept) and torch.equal(kept, now)
