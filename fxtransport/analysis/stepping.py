"""One training step of the whole without data: what it holds, stretch by stretch.

The stretches run one after the other, in one graph of autograd, so that it is known of every
storage in which stretch it was made, forward or backward.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from fxtransport.ir import HeldStorage
from fxtransport.outputs import find_logits
from fxtransport.peaks import Held, MemoryLog
from fxtransport.recompute_norms import recomputing
from fxtransport.replay import Key, key_of, replayed
from fxtransport.residue import Measure
from fxtransport.tracing.kernels import run_without_data

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_GRADIENT = "gradient"
_BEFORE = "before"


class Step:
    """A step of the whole. Call :meth:`forward` for each stretch, then :meth:`backward`.

    Args:
        module: The model without data, in train mode.
        device: Where it seems to be.
        amp: ``bf16``, ``fp16``, or None.
        measure: What is measured of each residual block; None: nothing.
        recompute: Whether norms and activations are computed again.
    """

    def __init__(
        self,
        module: nn.Module,
        device: torch.device,
        amp: str | None,
        measure: Measure | None,
        *,
        recompute: bool = False,
    ) -> None:
        self._recompute = recompute
        self._module = module
        self._device = device
        self._amp = amp
        self._measure = measure
        self._log = MemoryLog(run=run_without_data)
        self._log.add((*module.parameters(), *module.buffers()), _BEFORE)
        self._names = {id(p): name for name, p in module.named_parameters()}
        self._stretch_of: dict[Key, int] = {}
        self._costs: list[torch.Tensor] = []
        self._lowest = 0
        self._starts: dict[int, int] = {}
        self.forwards: list[tuple[int, int]] = []
        """The first and last operator of each stretch."""
        self.left: list[list[Held]] = []
        """The storages of what leaves each stretch."""
        self.parameters: list[dict[str, int]] = []
        """Bytes of the parameters that each stretch trains."""

    def add(self, inputs: Any) -> int:
        """Book the inputs; returns their bytes."""
        held = {id(h): h.size for h in map(self._log.held, _tensors(inputs))}
        for tensor in _tensors(inputs):
            self._log.held(tensor).kind = _BEFORE
        return sum(held.values())

    def forward(self, call: Callable[..., Any], state: Sequence[Any], *more: Any) -> Any:
        """Run the next stretch; returns what leaves it.

        Args:
            call: Takes the module, the state, a measure, and more.
            state: What leaves the stretch before.
            more: What it takes last.
        """
        log, first = self._log, self._log.time + 1
        log.place = len(self.forwards)
        self.parameters.append({})
        log.answers = False
        with self._autocast(), log, recomputing(self._recompute):
            returned, found = call(self._module, *state, self._measure, *more)
        log.answers = True
        costs = [value for value in found if value is not None]
        self._costs += costs
        self.left.append([log.held(tensor) for tensor in _tensors(returned)])
        self._watch([*_tensors(returned), *costs])
        self.forwards.append((first, log.time))
        return returned

    def backward(self, returned: Any) -> None:
        """A classification loss of what the model returns and the costs, and its gradient."""
        stretch = self._lowest = len(self.forwards) - 1
        total = self._loss(returned)
        del returned
        self._watch([total])
        self.forwards[stretch] = (self.forwards[stretch][0], self._log.time)
        with ExitStack() as stack:
            for parameter in self._module.parameters():
                if parameter.requires_grad:
                    handle = parameter.register_post_accumulate_grad_hook(self._book_gradient)
                    stack.callback(handle.remove)
            self._starts[stretch] = self._log.time + 1
            with self._log, replayed(self._device, self._log, self._enter_node):
                total.backward()

    def _loss(self, returned: Any) -> torch.Tensor:
        logits = find_logits(returned, lambda value: isinstance(value, torch.Tensor))
        outputs = _tensors(returned) if logits is None else [logits]
        with self._autocast(), self._log:
            terms = [*map(classification_loss, outputs), *(value.sum() for value in self._costs)]
            self._costs.clear()
            return torch.stack([term.float() for term in terms]).sum()

    def _autocast(self) -> torch.autocast:
        dtype = _DTYPES[self._amp] if self._amp else None
        return torch.autocast(self._device.type, dtype=dtype, enabled=self._amp is not None)

    def _watch(self, tensors: Sequence[torch.Tensor]) -> None:
        """Know, in the backward, which stretch the new nodes of autograd belong to."""
        stretch = len(self.parameters) - 1
        ahead: list[Any] = [t.grad_fn for t in tensors]
        while ahead:
            node = ahead.pop()
            if node is None or key_of(node) in self._stretch_of:
                continue
            self._stretch_of[key_of(node)] = stretch
            node.register_prehook(lambda _, stretch=stretch: self._enter(stretch))
            trained = getattr(node, "variable", None)
            if trained is not None and id(trained) in self._names:
                size = trained.numel() * trained.element_size()
                self.parameters[stretch][self._names[id(trained)]] = size
            ahead += [other for other, _ in node.next_functions]

    def _enter_node(self, key: Key) -> None:
        self._enter(self._stretch_of[key])

    def _enter(self, stretch: int) -> None:
        self._log.place = stretch
        for lower in range(stretch, self._lowest):
            self._starts[lower] = self._log.time + 1
        self._lowest = min(self._lowest, stretch)

    def _book_gradient(self, parameter: torch.Tensor) -> None:
        if parameter.grad is not None:
            self._log.held(parameter.grad).kind = _GRADIENT

    def backwards(self) -> list[tuple[int, int]]:
        """The first and last operator of each stretch's backward."""
        end, found = self._log.time, []
        for stretch in range(len(self.forwards)):
            start = min(self._starts.get(stretch, end + 1), end + 1)
            found.append((start, end))
            end = start - 1
        return found

    def held(self) -> tuple[list[HeldStorage], dict[int, int]]:
        """All storages that the step made, and their numbers by the identity of their entries."""
        found: list[HeldStorage] = []
        numbers: dict[int, int] = {}
        for held in self._log.found:
            if held.kind == _BEFORE:
                continue
            numbers[id(held)] = len(found)
            freed = self._log.time if held.freed is None else held.freed
            gradient = held.kind == _GRADIENT
            place = held.place if isinstance(held.place, int) else 0
            used = () if gradient else tuple(held.used)
            entry = HeldStorage(held.size, held.born, freed, place, held.backward, gradient, used)
            found.append(entry)
        return found, numbers

    @property
    def inner(self) -> dict[int, int]:
        """Bytes that an operator holds only while it runs, by its time."""
        return self._log.inner

    @property
    def inner_alone(self) -> dict[int, int]:
        """The same of operators whose gradient of the input is left out, where that differs."""
        return self._log.inner_alone


def classification_loss(logits: torch.Tensor) -> torch.Tensor:
    """The cross-entropy of logits, B×classes; the mean of other outputs."""
    if logits.dim() < 2 or not logits.is_floating_point():
        return logits.float().mean()
    targets = logits.new_zeros((logits.shape[0], *logits.shape[2:]), dtype=torch.int64)
    return functional.cross_entropy(logits, targets)


def _tensors(values: Any) -> list[torch.Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]
