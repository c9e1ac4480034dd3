"""Pair two models: the student's program, the teacher, and which layers are compared."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fxtransport.analysis.hidden import find_logits_node
from fxtransport.compiler import compile_passes, compile_program
from fxtransport.errors import UsageError
from fxtransport.example_inputs import ExampleInputs
from fxtransport.names import ModelSpec
from fxtransport.objectives.neurons import Pool, activations_of, check_pool
from fxtransport.objectives.transfer import PairedLayer, Regularizer, TransferOptions
from fxtransport.objectives.transfer_terms import ON_TEACHER, parse_regularizer
from fxtransport.pairing.bridging import copy_weights, make_bridge
from fxtransport.pairing.matching import match
from fxtransport.pairing.sites import Pairing, sites_of, wanted_names, with_taps
from fxtransport.pairing.students import open_student
from fxtransport.pairing.teachers import Normalization, OpenTeacher, described, open_teacher
from fxtransport.program import Program
from fxtransport.residue import Measures
from fxtransport.training import Teacher, Transfer


@dataclass(frozen=True)
class Pair:
    """A student and a teacher.

    ``print(pair)`` shows which layers are paired.
    """

    student: Program
    """The student's program, whose parameters are the model's own."""
    teacher: Teacher
    layers: tuple[PairedLayer, ...]
    """In the order in which the student computes them."""

    def activations(self, images: Any) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """What the two compute of a batch, as :func:`fxtransport.ot.omega` takes it.

        The student runs in its present mode, with gradients where they are on.

        Args:
            images: B×… of the student.

        Returns:
            By the student's layer: the activations A of its neurons, d×n, and those of the
            teacher, d'×n. n is the batch, or with ``pool`` other than ``mean`` the batch times
            the positions.
        """
        dims = {pair.student.name: pair.student.channels for pair in self.layers}

        def measure(name: str, value: torch.Tensor) -> torch.Tensor | None:
            if name not in dims:
                return None
            return activations_of(value, dims[name], self.teacher.pool)

        _, found = self.student(images, measure=Measures(activation=measure))
        own = dict(zip(dims, found, strict=True))
        other = self.teacher(images).activations
        return {
            pair.student.name: (
                own[pair.student.name].flatten(0, -2).T,
                other[pair.teacher.name].flatten(0, -2).T,
            )
            for pair in self.layers
        }

    def transfer(
        self,
        regularizer: str | dict[str, float],
        *,
        cache: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Transfer:
        """What :class:`fxtransport.training.Trainer` keeps the student near to.

        Args:
            regularizer: The weights of penalties, such as ``"ot:0.1,kd:0.5"``.
            cache: A folder in which the teacher's answers for the training set are kept.
            options: Those of :class:`fxtransport.objectives.transfer.TransferOptions`, except
                ``pool``, which the pair has.

        Raises:
            UsageError: the text or an option is not valid, or a penalty does not fit the pair.
        """
        terms = parse_regularizer(regularizer)
        if "kd" in terms:
            self._check_classes()
        given = TransferOptions(pool=self.teacher.pool, **options)
        start = self.shared_parameters() if "l2-sp" in terms else None
        chosen = Regularizer(terms, self.layers, given, start)
        asked = set(terms) & set(ON_TEACHER)
        teacher = self.teacher.asked_for(logits="kd" in terms) if asked else None
        return Transfer(chosen, teacher, None if cache is None else Path(cache))

    def shared_parameters(self) -> dict[str, torch.Tensor]:
        """The teacher's values of the parameters that the student has by name and shape."""
        own = dict(self.student.named_parameters())
        return {
            name: tensor.detach().clone()
            for name, tensor in self.teacher.program.named_parameters()
            if name in own and own[name].shape == tensor.shape
        }

    def start_from_teacher(self) -> tuple[str, ...]:
        """Give the student the teacher's weights and buffers, wherever names and shapes agree.

        Returns:
            The names of what has no counterpart, such as a head for other classes.

        Raises:
            UsageError: nothing agrees.
        """
        return copy_weights(
            self.teacher.program.model_state_dict(), self.student, self.teacher.name
        )

    def _check_classes(self) -> None:
        own, other = classes_of(self.student), classes_of(self.teacher.program)
        if own is None or other is None or own != other:
            said = "no logits" if other is None else f"{other} classes"
            raise UsageError(
                f"kd compares logits, but the student has {own or 'no'} classes and the teacher "
                f"{said}; take ot, which compares layers, or a teacher of the same classes"
            )

    def __str__(self) -> str:
        """The paired layers, a line each."""
        lines = [f"{self.teacher.name} teaches {_name(self.student)}"]
        for pair in self.layers:
            part = f"part {pair.part}: " if len(self.student.parts) > 1 else ""
            own, other = pair.student, pair.teacher
            lines.append(f"  {part}{own.name} {_size(own)} with {other.name} {_size(other)}")
        return "\n".join(lines)


def pair(
    student: str | ModelSpec | nn.Module | Program,
    teacher: str | os.PathLike[str] | nn.Module,
    layers: Pairing = "penultimate",
    *,
    pool: Pool = "mean",
    example_inputs: ExampleInputs | None = None,
    normalization: Normalization | None = None,
    trust_files: bool = False,
    verify: bool = True,
    **options: Any,
) -> Pair:
    """Pair two models, layer by layer (OT 4).

    Args:
        student: The name of a model, an ``nn.Module``, or a program, which is compiled again with
            its layers tapped and shares the model.
        teacher: The folder of a run or of a saved program; a file of weights that ``fxtransport
            export`` wrote, or else of the student's model; the name of a model, whose pretrained
            weights are fetched; an ``nn.Module`` or a program. It runs in eval mode, without
            gradients.
        layers: ``penultimate``, what enters the classifiers; pairs of names, of the student's
            layer and of the teacher's: paths of modules, such as residual blocks or stages, or
            names of nodes; or ``auto``: the last layer of each stage, or of each part where the
            student has several, with that of the teacher which has the same spatial size and,
            among the layers of this size, the nearest depth.
        pool: ``mean`` over positions and tokens; ``none``: each counts as a sample; or how many
            of them are sampled.
        example_inputs: Of the student, as :func:`fxtransport.transportify` takes them.
        normalization: The mean and the standard deviation of each channel by which the student's
            images are normalized. By default as timm says of the student. They are undone for a
            teacher that timm, or its run, says another one of.
        trust_files: Whether a Python file that a teacher's folder names may be run.
        verify: Compare numbers of both programs with the models'.
        options: ``modules``, ``balance`` and other options of the student's program.

    Raises:
        UsageError: there is no such teacher; a model has no such layer, or no penultimate one;
            layers have other positions and are not pooled; or the student's images cannot be
            made inputs of the teacher.
        FxTransportError: a model cannot be compiled.

    >>> import torch
    >>> from fxtransport.nets import resnet_m
    >>> large, small = (resnet_m(2, channels=c, image_size=8) for c in (16, 8))
    >>> found = pair(small, large, [("blocks.0", "blocks.1")])
    >>> print(found)
    Network teaches Network
      blocks.0 8×4×4 with blocks.1 16×4×4
    >>> A, T = found.activations(torch.zeros(5, 1, 8, 8))["blocks.0"]
    >>> A.shape, T.shape
    (torch.Size([8, 5]), torch.Size([16, 5]))
    """
    check_pool(pool)
    program, origin = open_student(student, layers, example_inputs, verify=verify, **options)
    example = program.facts.example
    opened = open_teacher(teacher, program, example, origin, trust_files=trust_files)
    own = normalization or described(program._model[0])
    return make_pair(program, opened, layers, pool=pool, normalization=own, verify=verify)


def make_pair(
    student: Program,
    opened: OpenTeacher,
    layers: Pairing,
    *,
    pool: Pool,
    normalization: Normalization | None,
    verify: bool = True,
) -> Pair:
    """Pair a student whose layers are tapped with a teacher that is open.

    Args:
        student: The student's program.
        opened: The teacher.
        layers: As for :func:`pair`.
        pool: As for :func:`pair`.
        normalization: How the student's images are normalized; None: not known.
        verify: Compare the numbers of the teacher's program with the model's.

    Raises:
        UsageError: as for :func:`pair`.
    """
    bridge = make_bridge(student.facts.example, opened, normalization)
    program = _compile_teacher(opened, layers, verify=verify)
    found = match(layers, sites_of(student), sites_of(program), pool)
    others = [paired.teacher for paired in found]
    teacher = Teacher(program, others, pool=pool, bridge=bridge, name=opened.name)
    return Pair(student, teacher, found)


def _compile_teacher(opened: OpenTeacher, layers: Pairing, *, verify: bool) -> Program:
    """The teacher's program, with the layers tapped that are compared; compiled once for each."""
    key = (layers if isinstance(layers, str) else tuple(map(tuple, layers)), verify)
    if key in opened.programs:
        return opened.programs[key]
    passes = compile_passes(verify=verify)
    try:
        names = wanted_names(layers, 1, opened.model, opened.example, passes)
        program = compile_program(opened.model, opened.example, with_taps(passes, names))
    except UsageError as error:
        raise UsageError(f"the teacher, {opened.name}: {error}") from error
    opened.programs[key] = program
    return program


def classes_of(program: Program) -> int | None:
    """How many classes a program's logits are for; None if it returns none."""
    node = find_logits_node(program.facts.graph, program.facts.shapes)
    spec = None if node is None else program.facts.shapes.specs.get(node.name)
    return None if spec is None or len(spec.shape) != 2 else spec.shape[1]


def _name(program: Program) -> str:
    origin = program.facts.origin
    return type(program._model[0]).__name__ if origin is None else origin.model


def _size(layer: Any) -> str:
    return "×".join(map(str, layer.shape))
