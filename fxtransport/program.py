"""Programs: the model's function with its residues tapped, cut into modules with heads."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import fx, nn

from fxtransport.errors import UsageError
from fxtransport.ir import HeadPlan, Layer, PartitionPlan, Residual, Shapes, VerificationReport
from fxtransport.lowered import Lowered, LoweredPart
from fxtransport.names import Origin
from fxtransport.residue import Measure, mean_square, mean_square_branch
from fxtransport.unit import Example

HEADS = "auxiliary_heads"
"""The prefix of the auxiliary heads in a program's ``state_dict``."""
HEAD = "auxiliary_head"
"""The name of a module's own head among its submodules."""


class TransportOutput(NamedTuple):
    """What :meth:`Program.transport` returns."""

    output: Any
    """What the model returns."""
    residues: tuple[torch.Tensor, ...]
    """One for each tapped residual (or layer), in execution order."""
    energies: torch.Tensor
    """The mean square of each residue: 1-D, as long as ``residues``."""


class PartOutput(NamedTuple):
    """What a module of a program returns."""

    hidden: Any
    """What the next module is given: a tensor, or a tuple where several values cross. Of the
    last module, what the model returns."""
    logits: Any
    """B×classes, of the module's head; None where it has none, or it is not run."""
    costs: torch.Tensor
    """What was measured of each residual block inside: 1-D; empty without a measure."""


class Facts(NamedTuple):
    """What the compiler found out about the model, from what, and by which passes."""

    pipeline: str
    """The passes in the order in which they ran, with their options."""
    example: Example
    graph: fx.Graph
    shapes: Shapes
    residuals: tuple[Residual, ...]
    layers: tuple[Layer, ...]
    partition: PartitionPlan
    heads: HeadPlan
    verification: VerificationReport | None
    """None where verification was skipped."""
    origin: Origin | None = None
    """From which name the model was built, if it was built from one."""

    def __deepcopy__(self, memo: object) -> "Facts":
        return self


class Program(nn.Module):
    """The same function as a model's, with its residues as outputs, cut into modules.

    A program has the model's own submodules, parameters and buffers, under their names, and
    no copies of them: training it trains the model. ``copy.deepcopy`` the model first to
    keep the two apart. Made by :func:`fxtransport.transportify`.
    """

    facts: Facts

    def __init__(
        self,
        model: nn.Module,
        lowered: Lowered,
        facts: Facts,
        heads: Mapping[int, nn.Module],
    ) -> None:
        super().__init__()
        _refuse_clashes(model)
        self._modules.update(model._modules)
        self._parameters.update(model._parameters)
        self._buffers.update(model._buffers)
        self._non_persistent_buffers_set = set(model._non_persistent_buffers_set)
        for name, value in vars(model).items():
            # tensors that are no buffers, which the graph may read
            if isinstance(value, torch.Tensor):
                setattr(self, name, value)
        self.training = model.training
        undecayed = getattr(model, "no_weight_decay", None)
        self._undecayed = frozenset(undecayed() if callable(undecayed) else ())
        self.facts = facts
        self.lowered = lowered
        if heads:
            named = {str(k): head for k, head in heads.items()}
            self.add_module(HEADS, nn.ModuleDict(named))
        self._parts = tuple(
            Part(self, k, module, heads.get(k)) for k, module in enumerate(lowered.parts)
        )
        # in a tuple, so that it is no submodule
        self._whole = (Part(self, 0, lowered.whole, None),)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """What the model returns, bit for bit."""
        return self.lowered.forward.call(self, *inputs, **named)

    def transport(self, *inputs: Any, **named: Any) -> TransportOutput:
        """What the model returns, with the residues and their energies.

        Residues are the branches of identity, projection and identity_bn additions (in a
        model without additions, x_{m+1} - x_m of its equal-dimension layers), in execution
        order (THESIS 2.1).
        """
        output, residues = self.lowered.transport.call(self, *inputs, **named)
        return TransportOutput(output, tuple(residues), _stack(self, map(mean_square, residues)))

    @property
    def parts(self) -> "tuple[Part, ...]":
        """The K modules, in order. ``part(hidden)`` chained over them is the program."""
        return self._parts

    @property
    def whole(self) -> "Part":
        """The program as one module: what the model returns, and what its blocks cost.

        It has no auxiliary heads, and its parameters are the model's own. End-to-end training
        is the training of ``(program.whole,)``.
        """
        return self._whole[0]

    @property
    def graph_hash(self) -> str:
        """A hash of what the program computes and where it is cut."""
        return self.lowered.hash

    @property
    def code(self) -> str:
        """The generated Python of the forward, to read."""
        return self.lowered.forward.source

    def no_weight_decay(self) -> frozenset[str]:
        """The parameters that the model wants no weight decay for; timm's optimisers ask."""
        return self._undecayed

    def model_state_dict(self) -> dict[str, torch.Tensor]:
        """The state dict without auxiliary heads, which the plain model loads."""
        state = self.state_dict()
        return {k: v for k, v in state.items() if not k.startswith(f"{HEADS}.")}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load a program's state dict, or the plain model's, which leaves the heads alone."""
        result = super().load_state_dict(state_dict, strict=False, assign=assign)
        has_heads = any(k.startswith(f"{HEADS}.") for k in state_dict)
        missing = [k for k in result.missing_keys if has_heads or not k.startswith(f"{HEADS}.")]
        result.missing_keys[:] = missing
        if strict and (missing or result.unexpected_keys):
            raise RuntimeError(
                f"Error(s) in loading state_dict for {type(self).__name__}: "
                f"missing keys {missing}, unexpected keys {result.unexpected_keys}"
            )
        self._refresh_parts()
        return result

    def _apply(self, fn: Any, recurse: bool = True) -> "Program":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._refresh_parts()
        return self

    def _refresh_parts(self) -> None:
        for part in (*self._parts, *self._whole):
            part.refresh()


class Part(nn.Module):
    """One of a program's modules: a range of its blocks, with an auxiliary head.

    It is a view: its submodules and parameters are the program's own, under their full
    names, so ``part.parameters()`` are what this module alone uses, and ``part.eval()`` or
    ``part.requires_grad_(False)`` act on the program. A parameter that two modules share is
    in both.
    """

    def __init__(
        self, program: Program, index: int, lowered: LoweredPart, head: nn.Module | None
    ) -> None:
        super().__init__()
        self.index = index
        if head is not None:
            # not by add_module, which refuses the name of the property below
            self._modules[HEAD] = head
        # in a tuple, so that it is no submodule: the program is around, not inside
        self._around = (program,)
        self._lowered = lowered
        self._names: set[str] = set()
        self.training = program.training
        self.refresh()

    def forward(
        self, hidden: Any, measure: Measure | None = mean_square_branch, head: bool = True
    ) -> PartOutput:
        """Run the module's blocks and head.

        Args:
            hidden: What the module before returned as ``.hidden``; for the first module, the
                program's input (a tuple if there are several).
            measure: What is measured of a residual block, such as the ``cost`` of an objective.
                By default the mean square of its branch. With None, nothing is measured.
            head: Whether the auxiliary head is run, if there is one.
        """
        state = hidden if isinstance(hidden, tuple) else (hidden,)
        returned, costs = self._lowered.function.call(self._program, *state, measure)
        stacked = _stack(self._program, [c for c in costs if c is not None])
        if self.is_last:
            return PartOutput(returned, returned, stacked)
        classifier = self.auxiliary_head if head else None
        logits = None if classifier is None else classifier(*self._tensors(returned))
        left = returned[0] if len(returned) == 1 else tuple(returned)
        return PartOutput(left, logits, stacked)

    @property
    def auxiliary_head(self) -> nn.Module | None:
        """The auxiliary head, if it has one."""
        return self._modules.get(HEAD)

    def no_weight_decay(self) -> frozenset[str]:
        """The program's."""
        return self._program.no_weight_decay()

    @property
    def _program(self) -> Program:
        return self._around[0]

    @property
    def is_last(self) -> bool:
        """Whether this is the last module, whose head is the model's own."""
        return self is self._program.whole or self.index == len(self._program.parts) - 1

    def refresh(self) -> None:
        """Take the program's present submodules, parameters and buffers."""
        for name in self._names:
            self._modules.pop(name, None)
            self._parameters.pop(name, None)
            self._buffers.pop(name, None)
        self._names = set()
        for path in self._lowered.owned:
            self._names.add(path.partition(".")[0])
            _mount(self, self._program, path)

    def _tensors(self, returned: Any) -> list[torch.Tensor]:
        spec = self._program.facts.heads.heads[self.index]
        return [returned[i] for i in spec.inputs]


def _mount(part: nn.Module, program: nn.Module, path: str) -> None:
    """Make a program's submodule, parameter or buffer one of a part's, at its full path."""
    *owners, name = path.split(".")
    source = program
    for owner in owners:
        source = getattr(source, owner)
        # not by add_module, which refuses a name that is an attribute of parts
        part._modules.setdefault(owner, nn.Module())
        part = part._modules[owner]  # type: ignore[assignment]
    for registry in ("_modules", "_parameters", "_buffers"):
        if name in getattr(source, registry):
            getattr(part, registry)[name] = getattr(source, registry)[name]


def _stack(
    program: nn.Module, energies: Iterator[torch.Tensor] | list[torch.Tensor]
) -> torch.Tensor:
    found = list(energies)
    if found:
        return torch.stack(found)
    first = next(program.parameters(), None)
    return torch.zeros(0, device=None if first is None else first.device)


def _refuse_clashes(model: nn.Module) -> None:
    for name in [*model._modules, *model._parameters, *model._buffers]:
        if name == HEADS or (hasattr(Program, name) and not hasattr(nn.Module, name)):
            raise UsageError(
                f"the model has a submodule or tensor named {name!r}, which means something "
                "else on a program; rename it"
            )
