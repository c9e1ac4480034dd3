"""What keeps a student near a teacher: penalties on paired layers, on logits and on weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import nn

from fxtransport import ot
from fxtransport.errors import UsageError
from fxtransport.objectives.neurons import Pool, activations_of, check_pool
from fxtransport.objectives.objective import logits_of
from fxtransport.objectives.penalties import decayed, soft_divergence
from fxtransport.objectives.transfer_terms import (
    EQUAL_WIDTHS,
    ON_LAYERS,
    PLANS,
    parse_regularizer,
)
from fxtransport.residue import Measure, Measures, costs_of


@dataclass(frozen=True)
class LayerOf:
    """A layer of one of the two networks."""

    name: str
    """The path of the module, the name of a node, or ``penultimate``."""
    shape: tuple[int, ...]
    """Without the batch."""
    channels: int
    """The dimension of the channels, counted with the batch."""

    @property
    def width(self) -> int:
        """How many neurons it has."""
        return self.shape[self.channels - 1]


@dataclass(frozen=True)
class PairedLayer:
    """A layer of the student, and that of the teacher which it is compared with."""

    student: LayerOf
    teacher: LayerOf
    part: int
    """The part of the student's program that computes its layer."""


class Reference(NamedTuple):
    """What a teacher says of a batch."""

    activations: Mapping[str, torch.Tensor]
    """Of each of its layers, B×C or B×P×C; see :func:`activations_of`."""
    logits: torch.Tensor | None
    """B×classes; None where nothing asks for them."""


@dataclass(frozen=True)
class TransferOptions:
    """The options of regularizers.

    Raises:
        UsageError: one is out of range.
    """

    pool: Pool = "mean"
    """How spatial maps and tokens become activations of neurons; see :func:`activations_of`."""
    temperature: float = 4.0
    """By which logits are divided before their softmax in ``kd``; published: 4 to 10."""
    p: float = 1.0
    """The power of the distance between two neurons."""
    solver: str = "auto"
    """Which solver computes exact plans; see :mod:`fxtransport.ot`."""
    epsilon: float = 0.05
    """The strength of the entropy in ``sinkhorn``, over the mean cost."""
    mass: float = 1.0
    """The share of the neurons that ``partial`` matches."""

    def __post_init__(self) -> None:
        check_pool(self.pool)
        for name in ("temperature", "epsilon", "mass"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UsageError(f"{name} is {getattr(self, name)}; it must be a positive number")
        if not 1 <= self.p < float("inf"):
            raise UsageError(f"p is {self.p}; it must be a number of at least 1")


class Regularizer(nn.Module):
    """A weighted sum of penalties that is added to what each part minimizes (OT 2, 4).

    A call returns the penalties without their weights, by name; a part without a paired layer has
    none of those on layers. Of a layer with activations A, d×n, and its teacher's T, d'×n:

    ============= ================================================================================
    ``ot``        Ω_P = min_P ⟨P, M⟩, M_ij = ‖A_i - T_j‖₂, over plans of uniform marginals
    ``identity``  Ω_I, where P couples each neuron with that of the same index
    ``uniform``   Ω_U, where P couples all neurons alike
    ``sinkhorn``  with the plan of entropic transport
    ``partial``   with the plan that couples a share of the neurons only
    ``feature``   the mean of (A - T)², as ``timm.task.FeatureDistillationTask``; where widths
                  differ, of a projection of A that is learned
    ``kd``        τ²·KL of softened logits, as ``timm.task.LogitDistillationTask``
    ``l2``        ‖w‖²/2 of what weight decay acts on
    ``l2-sp``     ‖w - w⁰‖²/2 of parameters that the teacher has too, with its values w⁰
    ============= ================================================================================

    Args:
        terms: The weight of each penalty, or the text that says them, such as ``ot:0.1,kd:0.5``.
        layers: The paired layers, in the order in which the student computes its own.
        options: Options of the penalties.
        start: w⁰, by the names of parameters.

    Raises:
        UsageError: the text is not valid, a penalty on layers has none, a penalty needs layers of
            one width, or ``l2-sp`` is given without w⁰.
    """

    def __init__(
        self,
        terms: str | Mapping[str, float],
        layers: Sequence[PairedLayer] = (),
        options: TransferOptions | None = None,
        start: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.terms = parse_regularizer(terms)
        self.layers = tuple(layers)
        self.options = options or TransferOptions()
        self.start = dict(start or {})
        """w⁰, by the names of parameters; no part of the state."""
        widths = [(pair.student.width, pair.teacher.width) for pair in self.layers]
        self.projections = nn.ModuleDict(
            {
                str(i): nn.Linear(own, other)
                for i, (own, other) in enumerate(widths)
                if "feature" in self.terms and own != other
            }
        )
        self._dims = {pair.student.name: pair.student.channels for pair in self.layers}
        self._bound: tuple[Measure | None, Measures] | None = None
        self._check()

    def _check(self) -> None:
        for name in self.terms:
            if name in ON_LAYERS and not self.layers:
                raise UsageError(f"the regularizer {name} compares layers, and none are paired")
            if name in EQUAL_WIDTHS:
                for pair in self.layers:
                    _require_equal_widths(name, pair)
        if "l2-sp" in self.terms and not self.start:
            raise UsageError(
                "l2-sp pulls parameters to those of the teacher, which has none of the same name "
                "and shape; take ot, which compares activations"
            )

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """As of any module, of w⁰ too, which is no part of its state."""
        self.start = {name: fn(tensor) for name, tensor in self.start.items()}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def measures(self, cost: Measure | None) -> Measures:
        """What a part measures: a cost of its residual blocks, and the activations that it needs.

        Args:
            cost: The ``cost`` of an objective.
        """
        if self._bound is None or self._bound[0] is not cost:
            # the same object each time, so that compiled code is not compiled again
            self._bound = (cost, Measures(cost, self._activations))
        return self._bound[1]

    def _activations(self, name: str, value: torch.Tensor) -> torch.Tensor | None:
        if name not in self._dims:
            return None
        return activations_of(value, self._dims[name], self.options.pool)

    def forward(
        self, part: Any, output: Any, reference: Reference | None
    ) -> tuple[Any, dict[str, torch.Tensor]]:
        """The penalties of a part on a batch.

        Args:
            part: The part, or ``program.whole``.
            output: What it returned with :meth:`measures`.
            reference: What the teacher says of the batch; None where no penalty needs it.

        Returns:
            The output with the costs of residual blocks alone, as an objective reads it, and the
            penalties by name, scalars.
        """
        costs, activations = _split(output.costs)
        found = dict(zip(self._names(part), activations, strict=True))
        penalties: dict[str, torch.Tensor] = {}
        for name in self.terms:
            value = self._penalty(name, part, output, found, reference)
            if value is not None:
                penalties[name] = value
        return output._replace(costs=costs_of(costs, activations)), penalties

    def learned(self, part: Any) -> list[nn.Parameter]:
        """The parameters of projections of a part's layers, which train with the part."""
        names = self._names(part)
        return [
            parameter
            for i, pair in enumerate(self.layers)
            if pair.student.name in names and str(i) in self.projections
            for parameter in self.projections[str(i)].parameters()
        ]

    def total(self, penalties: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The weighted sum of penalties, of which there is at least one."""
        return torch.stack([self.terms[name] * value for name, value in penalties.items()]).sum()

    def _names(self, part: Any) -> tuple[str, ...]:
        """The names of the activations that a part measures, in order."""
        is_whole = part.index == 0 and part.is_last
        own = [pair for pair in self.layers if is_whole or pair.part == part.index]
        return tuple(dict.fromkeys(pair.student.name for pair in own))

    def _penalty(
        self,
        name: str,
        part: Any,
        output: Any,
        found: Mapping[str, torch.Tensor],
        reference: Reference | None,
    ) -> torch.Tensor | None:
        if name == "l2":
            return decayed(part)
        if name == "l2-sp":
            return self._from_start(part)
        assert reference is not None, f"{name} needs a teacher"
        if name == "kd":
            assert reference.logits is not None, "kd needs the teacher's logits"
            return soft_divergence(
                logits_of(output.logits), reference.logits, self.options.temperature
            )
        values = [
            self._of_layer(
                name, i, found[pair.student.name], reference.activations[pair.teacher.name]
            )
            for i, pair in enumerate(self.layers)
            if pair.student.name in found
        ]
        return torch.stack(values).sum() if values else None

    def _of_layer(
        self, name: str, index: int, own: torch.Tensor, other: torch.Tensor
    ) -> torch.Tensor:
        """A penalty on one layer: of B×C or B×P×C of each network."""
        other = other.to(own.dtype)
        if name == "feature":
            key = str(index)
            return F.mse_loss(self.projections[key](own) if key in self.projections else own, other)
        options = self.options
        return ot.omega(
            own.flatten(0, -2).T,
            other.flatten(0, -2).T,
            plan=PLANS[name],
            p=options.p,
            solver=options.solver,
            epsilon=options.epsilon,
            mass=options.mass,
        )

    def _from_start(self, part: nn.Module) -> torch.Tensor | None:
        """‖w - w⁰‖²/2 of a part's parameters that the teacher has."""
        values = [
            (tensor - self.start[name]).square().sum()
            for name, tensor in part.named_parameters()
            if name in self.start
        ]
        return torch.stack(values).sum() / 2 if values else None

    def extra_repr(self) -> str:
        """The weights, layers and options."""
        terms = ",".join(f"{name}:{weight:g}" for name, weight in self.terms.items())
        layers = ", ".join(f"{pair.student.name}={pair.teacher.name}" for pair in self.layers)
        return f"terms={terms!r}, layers={layers!r}, options={self.options}"


def _split(costs: Any) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The costs of residual blocks, and the activations, among what a part measured."""
    if isinstance(costs, torch.Tensor):
        return list(costs.unbind()), []
    scalars = [value for value in costs if value.dim() == 0]
    return scalars, [value for value in costs if value.dim() > 0]


def _require_equal_widths(name: str, pair: PairedLayer) -> None:
    own, other = pair.student, pair.teacher
    if own.width != other.width:
        raise UsageError(
            f"{name} needs layers of one width, but {own.name} of the student has {own.width} "
            f"neurons and {other.name} of the teacher {other.width}; take ot, which matches them"
        )
