"""Pair two models: the student's program, the teacher, and which layers are compared."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fxtransport.analysis.hidden import find_logits_node
from fxtransport.compiler import compile_passes, compile_program
from fxtransport.errors import UsageError
from fxtransport.example import Example
from fxtransport.example_inputs import ExampleInputs, example_of
from fxtransport.names import ModelSpec
from fxtransport.objectives.neurons import Pool, activations_of, check_pool
from fxtransport.objectives.transfer import PairedLayer, Regularizer, TransferOptions
from fxtransport.objectives.transfer_terms import ON_TEACHER, parse_regularizer
from fxtransport.origin import Origin
from fxtransport.pairing.matching import match
from fxtransport.pairing.sites import Pairing, sites_of, wanted_names, with_taps
from fxtransport.pairing.teachers import Normalization, OpenTeacher, described, open_teacher
from fxtransport.passes.base import Pass
from fxtransport.passes.pipeline import Pipeline
from fxtransport.program import Program
from fxtransport.residue import Measures
from fxtransport.targets import open_target
from fxtransport.training import Bridge, Teacher, Transfer
from fxtransport.wrappers import unwrap


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
    program, origin = _student(student, layers, example_inputs, verify=verify, **options)
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
    passes = compile_passes(verify=verify)
    try:
        names = wanted_names(layers, 1, opened.model, opened.example, passes)
        program = compile_program(opened.model, opened.example, with_taps(passes, names))
    except UsageError as error:
        raise UsageError(f"the teacher, {opened.name}: {error}") from error
    found = match(layers, sites_of(student), sites_of(program), pool)
    others = [paired.teacher for paired in found]
    teacher = Teacher(program, others, pool=pool, bridge=bridge, name=opened.name)
    return Pair(student, teacher, found)


def make_bridge(example: Example, opened: OpenTeacher, own: Normalization | None) -> Bridge:
    """From the student's input to the teacher's.

    Raises:
        UsageError: it cannot be made.
    """
    shapes = [[tuple(x.shape[1:]) for x in e.tensors] for e in (example, opened.example)]
    if shapes[0] == shapes[1] and len(shapes[0]) != 1:
        return Bridge()
    sizes = [shape[0] if len(shape) == 1 else () for shape in shapes]
    if sizes[0] != sizes[1]:
        images = all(len(size) == 3 for size in sizes)
        if not images or sizes[0][0] not in (1, sizes[1][0]):
            given, taken = ("×".join(map(str, size)) or "several inputs" for size in sizes)
            raise UsageError(
                f"the student is given {given} and {opened.name} takes {taken}: give the student "
                "an input_size with the teacher's channels, or another teacher"
            )
    other = opened.normalization
    if own is None or other is None or len(sizes[0]) != 3:
        return Bridge(None if sizes[0] == sizes[1] else sizes[1])
    return Bridge(
        None if sizes[0] == sizes[1] else sizes[1],
        _for_channels(own, sizes[0][0]),
        _for_channels(other, sizes[1][0]),
    )


def _for_channels(given: Normalization, channels: int) -> Normalization:
    """Numbers for so many channels: of a gray image, their means."""
    mean, std = (tuple(map(float, values)) for values in given)
    if len(mean) in (1, channels):
        return mean, std
    return (sum(mean) / len(mean),), (sum(std) / len(std),)


def copy_weights(state: dict[str, torch.Tensor], program: Program, source: str) -> tuple[str, ...]:
    """Copy weights and buffers into a program, wherever names and shapes agree.

    Args:
        state: Those of another model.
        program: What they are copied into.
        source: Whose they are, for the error.

    Returns:
        The names of what has no counterpart.

    Raises:
        UsageError: nothing agrees.
    """
    own = program.model_state_dict()
    shared = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    if not shared:
        raise UsageError(
            f"the student has no weights of the names and shapes of {source}'s: build it as the "
            "teacher is, or begin with weights of its own"
        )
    with torch.no_grad():
        for name, tensor in shared.items():
            own[name].copy_(tensor)
    return tuple(name for name in own if name not in shared)


def classes_of(program: Program) -> int | None:
    """How many classes a program's logits are for; None if it returns none."""
    node = find_logits_node(program.facts.graph, program.facts.shapes)
    spec = None if node is None else program.facts.shapes.specs.get(node.name)
    return None if spec is None or len(spec.shape) != 2 else spec.shape[1]


def _student(
    student: str | ModelSpec | nn.Module | Program,
    layers: Pairing,
    example_inputs: ExampleInputs | None,
    **options: Any,
) -> tuple[Program, Origin | None]:
    """The student's program with its layers tapped, and its name if it has one."""
    if isinstance(student, Program):
        return _tapped_again(student, layers), student.facts.origin
    origin = None
    if isinstance(student, nn.Module):
        model = unwrap(student)
        example = example_of(model, example_inputs)
    else:
        if example_inputs is not None:
            raise UsageError("a student that is named takes input_size, not example_inputs")
        size = options.pop("input_size", None)
        target = open_target(student, input_size=size, pretrained=options.pop("pretrained", False))
        model, example, origin = target.model, target.example, target.origin
    passes = compile_passes(**options)
    return compile_tapped(model, example, passes, layers, origin), origin


def compile_tapped(
    model: nn.Module,
    example: Example,
    passes: Sequence[Pass],
    layers: Pairing,
    origin: Origin | None = None,
) -> Program:
    """A student's program with the layers tapped that may be paired.

    Raises:
        FxTransportError: it cannot be compiled, or has no such layer.
    """
    names = wanted_names(layers, 0, model, example, passes)
    program = compile_program(model, example, with_taps(passes, names))
    program.facts = program.facts._replace(origin=origin)
    return program


def _tapped_again(program: Program, layers: Pairing) -> Program:
    """The program itself where the layers are tapped, or another of the same model and heads."""
    model, example = program._model[0], program.facts.example
    passes = Pipeline.parse(program.facts.pipeline).passes
    names = wanted_names(layers, 0, model, example, passes)
    if set(names) <= set(program.facts.activations):
        return program
    again = compile_program(model, example, with_taps(passes, names))
    again.facts = again.facts._replace(origin=program.facts.origin)
    heads = {k: v for k, v in program.state_dict().items() if k not in program.model_state_dict()}
    own = again.state_dict()
    for name, tensor in heads.items():
        if name not in own or own[name].shape != tensor.shape:
            raise UsageError(
                "with its layers tapped the program is cut elsewhere, so its heads do not fit: "
                f"compile it with activations={tuple(names)!r}"
            )
        with torch.no_grad():
            own[name].copy_(tensor)
    return again


def _name(program: Program) -> str:
    origin = program.facts.origin
    return type(program._model[0]).__name__ if origin is None else origin.model


def _size(layer: Any) -> str:
    return "×".join(map(str, layer.shape))
