"""Programs: a model's function with its residues tapped, cut into parts with heads."""

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn, Self

import torch
from torch import fx, nn

from fxtransport.arguments import arguments_of
from fxtransport.copies import copied_wholly
from fxtransport.errors import UsageError
from fxtransport.example import Example
from fxtransport.ir import (
    Block,
    HeadPlan,
    Layer,
    PartitionPlan,
    Residual,
    Shapes,
    VerificationReport,
)
from fxtransport.lowered import Lowered
from fxtransport.origin import Origin, Provenance
from fxtransport.part import HEAD, Part, PartOutput, Place
from fxtransport.residue import Measure, Measures, Residue, costs_of, mean_square
from fxtransport.shells import Root

__all__ = ["HEAD", "HEADS", "Facts", "Part", "PartOutput", "Program", "TransportOutput"]

HEADS = "auxiliary_heads"
"""The prefix of the auxiliary heads in a program's ``state_dict``."""


class TransportOutput(NamedTuple):
    """What :meth:`Program.transport` returns."""

    output: Any
    """What the model returns."""
    residues: tuple[torch.Tensor, ...]
    """One for each tapped residual (or layer), in execution order."""
    energies: torch.Tensor
    """The mean square of each residue: 1-D, as long as ``residues``."""


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
    activations: tuple[str, ...] = ()
    """The names of the activations that are tapped, in execution order."""
    blocks: tuple[Block, ...] = ()
    """The blocks that are tapped, in the order in which they are measured."""
    origin: Origin | None = None
    """From which name the model was built, if it was built from one."""

    def __deepcopy__(self, memo: object) -> "Facts":
        return self


class Program(nn.Module):
    """The same function as a model's, with its residues as outputs, cut into parts.

    A program has the model's own submodules, parameters and buffers, under their names, and
    no copies of them: training it trains the model. ``copy.deepcopy`` the model first to
    keep the two apart. Made by :func:`fxtransport.transportify`.

    Args:
        model: The model.
        lowered: The functions to run.
        facts: What is known of the model.
        heads: The auxiliary head of each part that has one.
    """

    facts: Facts

    def __init__(
        self, model: nn.Module, lowered: Lowered, facts: Facts, heads: Mapping[int, nn.Module]
    ) -> None:
        super().__init__()
        _refuse_clashes(model)
        self._modules.update(model._modules)
        self._share_tensors(model)
        self.training = model.training
        undecayed = getattr(model, "no_weight_decay", None)
        self._undecayed = frozenset(undecayed() if callable(undecayed) else ())
        self.facts = facts
        self.lowered = lowered
        if heads:
            self.add_module(HEADS, nn.ModuleDict({str(k): head for k, head in heads.items()}))
        # in a tuple, so that it is not a submodule
        self._model = (model,)
        self._make_parts()

    def _share_tensors(self, model: nn.Module) -> None:
        """Have the parameters and buffers that the model has, also those that it is given later."""
        for registry in ("_parameters", "_buffers", "_non_persistent_buffers_set"):
            self.__dict__[registry] = model.__dict__[registry]

    def _make_parts(self) -> None:
        """Make what holds the same submodules as this program: its root and its parts."""
        model, lowered = self._model[0], self.lowered
        self._root = (Root(model, self),)
        example = self.facts.example
        self._arguments = arguments_of(model, len(example.inputs), example.names)
        last = len(lowered.parts) - 1
        heads = self._modules.get(HEADS)
        self._parts = tuple(
            Part(
                self,
                model,
                part,
                Place(k, k, k == last, self.facts.heads.heads[k].inputs, self._undecayed),
                None if heads is None else heads._modules.get(str(k)),
            )
            for k, part in enumerate(lowered.parts)
        )
        whole = Place(0, last, True, (), self._undecayed)
        self._whole = (Part(self, model, lowered.whole, whole, None),)

    def forward(self, *inputs: Any, measure: Measure | Measures | None = None, **named: Any) -> Any:
        """What the model returns, bit for bit.

        Args:
            inputs: What the model is given.
            measure: What is measured of each residual block. If it is given, a pair is
                returned: what the model returns, and what was measured, a tuple.
            named: What the model is given by name.

        Raises:
            UsageError: an argument is missing, or the program was compiled without it.
        """
        self.whole.prepare()
        given = self._arguments.bind(inputs, named)
        if measure is None:
            return self.lowered.forward.call(self._root[0], *given)
        output, found = self.lowered.whole.function.call(self._root[0], *given, measure)
        return output, tuple(value for value in found if value is not None)

    def transport(self, *inputs: Any, **named: Any) -> TransportOutput:
        """What the model returns, with the residues and their energies.

        Residues are the branches of identity, projection and identity_bn additions (in a
        model without additions, x_{m+1} - x_m of its equal-dimension layers), in execution
        order (THESIS 2.1). Hooks of the program run; they are given the pair of
        :meth:`forward`.
        """
        output, residues = self(*inputs, measure=_branch, **named)
        like = self._arguments.bind(inputs, named)
        energies = costs_of([mean_square(residue) for residue in residues], like)
        assert isinstance(energies, torch.Tensor)
        return TransportOutput(output, residues, energies)

    def activations(self, *inputs: Any, **named: Any) -> dict[str, torch.Tensor]:
        """The activations that were tapped by name, in execution order.

        They are named by the option ``activations`` when the program is made: the paths of
        modules, the names of nodes, or ``penultimate``, which is what enters the classifier.
        """
        _, found = self(*inputs, measure=Measures(activation=_itself), **named)
        return dict(zip(self.facts.activations, found, strict=True))

    @property
    def parts(self) -> tuple[Part, ...]:
        """The K parts, in order. ``part(hidden)`` chained over them is the program."""
        return self._parts

    @property
    def whole(self) -> Part:
        """The program as one part: what the model returns, and what its blocks cost.

        It has no auxiliary heads, and its parameters are the model's own. End-to-end training
        is the training of ``(program.whole,)``.
        """
        return self._whole[0]

    @property
    def graph_hash(self) -> str:
        """A hash of what the program computes and where it is cut."""
        return self.lowered.hash

    @property
    def provenance(self) -> Provenance:
        """From what, and by which passes, the program was made."""
        facts = self.facts
        return Provenance(
            origin=facts.origin,
            inputs=facts.example.described(),
            pipeline=facts.pipeline,
            cuts=tuple(cut.path for cut in facts.partition.cuts),
            graph_hash=self.graph_hash,
        )

    @property
    def code(self) -> str:
        """The generated Python of the forward, to read."""
        return self.lowered.forward.source

    def train(self, mode: bool = True) -> Self:
        """Set the mode of every module, as ``train`` of the model and of its modules does."""
        model = self._model[0]
        model.train(mode)
        for name, child in self._modules.items():
            if child is not None and model._modules.get(name) is not child:
                child.train(mode)
        self.training = model.training
        for part in (*self._parts, *self._whole):
            part.take_modes()
        return self

    def no_weight_decay(self) -> frozenset[str]:
        """The parameters that the model wants no weight decay for; timm's optimizers ask."""
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
        return result

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        views = ("_root", "_parts", "_whole", "_arguments")
        kept = {name: value for name, value in vars(self).items() if name not in views}
        with copied_wholly():
            copied.__dict__.update(copy.deepcopy(kept, memo))
        copied._share_tensors(copied._model[0])
        copied._make_parts()
        pairs = zip((*copied._parts, *copied._whole), (*self._parts, *self._whole), strict=True)
        for own, other in pairs:
            own.copy_modes(other)
        return copied

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise UsageError(
            "a Program cannot be pickled; save it with fxtransport.save(program, folder), and "
            "load it with fxtransport.load(folder)"
        )


def _branch(residue: Residue) -> torch.Tensor:
    return residue.branch


def _itself(_: str, value: torch.Tensor) -> torch.Tensor:
    return value


def _refuse_clashes(model: nn.Module) -> None:
    for name in [*model._modules, *model._parameters, *model._buffers]:
        if name == HEADS or (hasattr(Program, name) and not hasattr(nn.Module, name)):
            raise UsageError(
                f"the model has a submodule or tensor named {name!r}, which means something "
                "else on a program; rename it"
            )
