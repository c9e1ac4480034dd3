"""Parts of a program: a range of its blocks with an auxiliary head, which runs on its own."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import nn
from torch.utils import _pytree

from fxtransport.copies import copied_wholly
from fxtransport.errors import GuardError, UsageError
from fxtransport.hooks import hook_error, hook_of
from fxtransport.lowered import LoweredPart
from fxtransport.opened import opened_modules
from fxtransport.origin import Provenance
from fxtransport.recompute_norms import recomputing
from fxtransport.residue import Measure, Measures, at_the_end, costs_of, mean_square_branch
from fxtransport.shells import (
    REGISTRIES,
    Root,
    Shell,
    detach,
    mount,
    placeholders,
    shells_in,
)
from fxtransport.watched import Camera

HEAD = "auxiliary_head"
"""The name of a part's own head among its submodules."""


class PartOutput(NamedTuple):
    """What a part of a program returns."""

    hidden: Any
    """What the next part is given: a tensor, or a tuple where several values cross. Of the
    last part, what the model returns."""
    logits: Any
    """B×classes, of the part's head; None where it has none, or it is not run."""
    costs: Any
    """What was measured of each residual block inside, in execution order. Scalars make a 1-D
    tensor of M, values per sample one of B×M, other tensors a tuple. Empty without a measure."""


# so that what torch.export makes of a part can be saved
_pytree._register_namedtuple(PartOutput, serialized_type_name="fxtransport.PartOutput")


@dataclass(frozen=True)
class Place:
    """Where in a program a part is."""

    index: int
    exit: int
    is_last: bool
    reads: tuple[int, ...]
    """Which values of the hidden state that leaves the auxiliary head reads."""
    undecayed: frozenset[str]
    """The parameters that the model wants no weight decay for."""


class Part(nn.Module):
    """One of a program's parts: a range of its blocks, with an auxiliary head.

    Its submodules and parameters are the program's own, under their full names, so
    ``part.parameters()`` are what this part alone uses, and training it trains the program. A
    parameter that two parts share is in both.

    A part runs without the rest of the program. ``copy.deepcopy`` of a part is a part of its
    own, which shares nothing with the program and holds nothing of the other parts.

    Args:
        source: Holds the submodules, parameters and buffers: the program, or ``model``.
        model: The model, whose plain attributes and ``train`` are the part's.
        lowered: The function to run, and what it needs.
        place: Where in the program the part is.
        head: The auxiliary head; None if it has none.
        provenance: From what the program was made; None if ``source`` is the program, which
            knows.
    """

    def __init__(
        self,
        source: nn.Module,
        model: nn.Module,
        lowered: LoweredPart,
        place: Place,
        head: nn.Module | None,
        provenance: Provenance | None = None,
    ) -> None:
        super().__init__()
        self._provenance = provenance
        self.training = source.training
        self._place = place
        self._lowered = lowered
        # in a tuple, so that they are not submodules
        self._around = (source, model)
        self._root = (Root(model, self),)
        self._head = (head,)
        self._again = 0
        self.recompute_norms = False
        """Whether what norms and activations return is computed again in the backward pass, from
        what they keep, instead of being kept too. Numbers stay the same, bit for bit."""
        self._function = lowered.function
        self._kinds = {path: type(model.get_submodule(path)) for path in lowered.entered}
        self._hold()

    def _hold(self) -> None:
        """Take the present submodules, parameters and buffers."""
        source, model = self._around
        self._opened = opened_modules(
            model, source, self._kinds, self._lowered.watched, self._lowered.called
        )
        modes = {shell.origin: shell.training for shell in shells_in(self)}
        for registry in REGISTRIES:
            getattr(self, registry).clear()
        self._mounts = mount(self, source, self._lowered)
        self._shells = tuple(shells_in(self))
        for shell in self._shells:
            shell.training = modes.get(shell.origin, shell.training)
        if self._head[0] is not None:
            # not by add_module, which refuses the name of the property below
            self._modules[HEAD] = self._head[0]

    def catch_up(self) -> None:
        """Hold what the program holds now, if something of it was replaced.

        Raises:
            UsageError: an opened module was replaced by one of another class.
        """
        if torch.compiler.is_compiling():
            return
        if not all(module.is_current for module in self._opened):
            self._hold()
        self._take()

    def _take(self) -> None:
        for entry in self._mounts:
            if not entry.is_current:
                entry.take()

    def prepare(self) -> None:
        """Catch up, and see that the graph still computes what the model does.

        Raises:
            UsageError: an opened module was replaced by one of another class.
            GuardError: an attribute that the graph depends on is not what it was, or a hook was
                registered that would not run.
        """
        if torch.compiler.is_compiling():
            # what is compared here is what compiled code is guarded by
            for module in self._opened:
                module.check_compiled()
            if torch.compiler.is_dynamo_compiling():
                self._take()
            return
        self.catch_up()
        camera = Camera()
        for module in self._opened:
            module.check(camera)
        for shell in self._shells:
            kind = hook_of(shell)
            if kind is not None:
                path = next(name for name, module in super().named_modules() if module is shell)
                raise GuardError(hook_error(path, shell.origin, kind))

    def forward(
        self,
        hidden: Any,
        measure: Measure | Measures | None = mean_square_branch,
        head: bool = True,
    ) -> PartOutput:
        """Run the part's blocks and head.

        Args:
            hidden: What the part before returned as ``.hidden``; for the first part, the
                program's input (a tuple if there are several).
            measure: What is measured of each residual block, such as the ``cost`` of an
                objective: a scalar, a value per sample, or any tensor; None for a block
                measures nothing of it. By default the mean square of its branch. With None
                instead of a function, nothing is measured.
            head: Whether the auxiliary head is run, if there is one.
        """
        self.prepare()
        # the last argument is the measure
        state = (hidden,) if len(self._lowered.function.inputs) == 2 else hidden
        again = (self._again,) if self._again else ()
        with recomputing(self.recompute_norms):
            returned, found = self._function.call(
                self._root[0], *state, at_the_end(measure), *again
            )
        costs = costs_of([value for value in found if value is not None], state)
        if self.is_last:
            return PartOutput(returned, returned, costs)
        classifier = self.auxiliary_head if head else None
        reads = [returned[i] for i in self._place.reads]
        logits = None if classifier is None else classifier(*reads)
        return PartOutput(returned[0] if len(returned) == 1 else tuple(returned), logits, costs)

    @property
    def index(self) -> int:
        """Which part of the program it is, counted from 0; 0 for the whole."""
        return self._place.index

    @property
    def exit(self) -> int:
        """The exit whose logits it returns: its own index, or the last one for the whole."""
        return self._place.exit

    @property
    def provenance(self) -> Provenance:
        """From what, and by which passes, the program was made that this is a part of."""
        if self._provenance is not None:
            return self._provenance
        found: Provenance = self._around[0].provenance  # type: ignore[assignment]
        return found

    @property
    def code(self) -> str:
        """The generated Python, to read."""
        return self._function.listing

    @property
    def can_checkpoint(self) -> bool:
        """Whether it has residual blocks that can be computed again in the backward pass."""
        return self.checkpointable_blocks > 0

    @property
    def checkpointable_blocks(self) -> int:
        """How many residual blocks can be computed again in the backward pass."""
        return self._lowered.checkpointable

    @property
    def checkpointed_blocks(self) -> int:
        """How many residual blocks keep their input alone for the backward pass: the first ones.

        They then compute the rest again. Outputs, gradients and buffers stay the same, bit for
        bit; where the model itself checkpoints, it does as before. When a block is computed again,
        the blocks after it have freed their activations, so the first ones save most.

        Set it to a number from 0 to :attr:`checkpointable_blocks`; others raise UsageError.
        """
        return self._again

    @checkpointed_blocks.setter
    def checkpointed_blocks(self, value: int) -> None:
        most = self.checkpointable_blocks
        if not 0 <= value <= most:
            raise UsageError(
                f"part {self.index} cannot compute {value} residual blocks again: it has {most} "
                f"that can be; set checkpointed_blocks to a number from 0 to {most}"
            )
        again = self._lowered.checkpointing
        self._again = value
        self._function = self._lowered.function if again is None or not value else again.function

    @property
    def checkpoint_activations(self) -> bool:
        """Whether all residual blocks that can be are computed again.

        False of a part that has none; :attr:`checkpointed_blocks` is for some of them.
        """
        return self.can_checkpoint and self._again == self.checkpointable_blocks

    @checkpoint_activations.setter
    def checkpoint_activations(self, value: bool) -> None:
        self.checkpointed_blocks = self.checkpointable_blocks if value else 0

    @property
    def is_last(self) -> bool:
        """Whether this is the last part, whose head is the model's own."""
        return self._place.is_last

    @property
    def auxiliary_head(self) -> nn.Module | None:
        """The auxiliary head, if it has one."""
        return self._modules.get(HEAD)

    def no_weight_decay(self) -> frozenset[str]:
        """The parameters that the model wants no weight decay for; timm's optimizers ask."""
        return self._place.undecayed

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the part's modules, as ``train`` of the model and its modules does.

        Other parts stay in the mode that they are in.
        """
        self.catch_up()
        model = self._around[1]
        own = set(self.modules())
        others = {m: m.training for m in model.modules() if m not in own}
        model.train(mode)
        self.take_modes()
        for module, before in others.items():
            module.training = before
        known = {*others, *own.intersection(model.modules())}
        for child in self._modules.values():
            # the head, and what has taken the place of a submodule on the program
            if child is not None and child not in known and not isinstance(child, Shell):
                child.train(mode)
        return self

    def take_modes(self) -> None:
        """Set the modes of modules that are held in part to those of the program."""
        self.training = self._around[1].training
        for shell in shells_in(self):
            shell.training = shell.origin.training

    def copy_modes(self, other: "Part") -> None:
        """Run as the same part elsewhere does: in its modes, also of modules held in part."""
        self.training = other.training
        self.checkpointed_blocks = other.checkpointed_blocks
        self.recompute_norms = other.recompute_norms
        for own, twin in zip(shells_in(self), shells_in(other), strict=True):
            own.training = twin.training

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__.get("_modules", ()):
            self.catch_up()
        return super().__getattr__(name)

    def named_modules(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Module]]:
        """As of any module, of what the program holds now."""
        self.catch_up()
        yield from super().named_modules(*args, **kwargs)

    def named_children(self) -> Iterator[tuple[str, nn.Module]]:
        """As of any module, of what the program holds now."""
        self.catch_up()
        yield from super().named_children()

    def get_submodule(self, target: str) -> nn.Module:
        """As of any module, of what the program holds now."""
        self.catch_up()
        return super().get_submodule(target)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As of any module, of what the program holds now."""
        self.catch_up()
        return super().state_dict(*args, **kwargs)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self.catch_up()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for entry in self._mounts:
            if entry.registry != "_modules":
                held = getattr(entry.shell, entry.registry)[entry.name]
                getattr(entry.origin, entry.registry)[entry.name] = held
        self._hold()
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Part":
        self.catch_up()
        model = self._around[1]
        # a memo of its own: in it the modules of other parts are empty
        own = placeholders(model, set(self.modules()))
        with copied_wholly():
            alone = detach(self, model, own)
            head = copy.deepcopy(self._head[0], own)
        copied = Part(alone, alone, self._lowered, self._place, head, self.provenance)
        memo[id(self)] = copied
        copied.copy_modes(self)
        return copied

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Pickle the part alone; its model's classes must be importable."""
        alone = copy.deepcopy(self)
        model, modes = alone._around[1], [self.training, *(s.training for s in shells_in(self))]
        made_of = (model, self._lowered, self._place, alone._head[0], self.provenance)
        return _unpickled, (*made_of, modes, alone.checkpointed_blocks, alone.recompute_norms)


def _unpickled(
    model: nn.Module,
    lowered: LoweredPart,
    place: Place,
    head: nn.Module | None,
    provenance: Provenance,
    modes: Sequence[bool],
    checkpointed_blocks: int,
    recompute_norms: bool,
) -> Part:
    part = Part(model, model, lowered, place, head, provenance)
    for module, mode in zip((part, *shells_in(part)), modes, strict=True):
        module.training = mode
    part.checkpointed_blocks = checkpointed_blocks
    part.recompute_norms = recompute_norms
    return part
