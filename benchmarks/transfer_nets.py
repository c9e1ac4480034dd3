"""What the benchmark of transfer trains: the tasks, the networks, and one training of a cell."""

import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

import fxtransport
from fxtransport.data import OrderedStream, ShuffledStream, TensorSamples, load
from fxtransport.nets import cifar_resnet, initialize
from fxtransport.objectives import plain
from fxtransport.pairing.bridging import copy_weights
from fxtransport.pairing.pairs import Pair
from fxtransport.program import Program
from fxtransport.training import (
    EndToEnd,
    OptimizerSettings,
    Teacher,
    Trainer,
    TrainerSettings,
    Transfer,
    evaluate,
)

SIZES = {"digits": (1, 8, 8), "mnist5k": (1, 14, 14), "patches": (3, 16, 16)}
"""The sets, and the size to which their images are brought."""
TEST, VALIDATION = 0.3, 0.2
TEACHER_LR, TEACHER_EPOCHS, TEACHER_BATCH = 0.05, 15, 64
PRETRAINED_SHARE = 10
"""A lightly pre-trained student has seen one of this number of the teacher's images."""


Layers = tuple[tuple[str, str], ...]
PENULTIMATE: Layers = (("penultimate", "penultimate"),)


class Net(NamedTuple):
    """A residual network of three stages."""

    depth: int
    width: int


LARGE, MEDIUM, SMALL = Net(14, 16), Net(8, 16), Net(8, 8)
NETS = {"L": LARGE, "M": MEDIUM, "S": SMALL}


@dataclass(frozen=True)
class Task:
    """What is learned of a set."""

    data: str
    name: str
    """``all`` classes; ``parity`` of the digit; ``first`` or ``second`` half of the classes."""

    @property
    def classes(self) -> int:
        """How many there are."""
        return {"all": 10, "parity": 2, "first": 5, "second": 5}[self.name]

    def label(self, samples: TensorSamples) -> TensorSamples:
        """The samples of the task, with its classes."""
        images, targets = samples.inputs, samples.targets
        if self.name == "parity":
            return TensorSamples(images, targets % 2)
        if self.name == "all":
            return samples
        kept = targets < 5 if self.name == "first" else targets >= 5
        return TensorSamples(images[kept], targets[kept] % 5)


class Splits(NamedTuple):
    """All images of a set, by split."""

    train: TensorSamples
    validation: TensorSamples
    test: TensorSamples

    def of(self, task: Task, few: int | None = None) -> "Splits":
        """The splits of a task, with a number of training images."""
        train, *others = (task.label(part) for part in self)
        if few is not None:
            train = TensorSamples(train.inputs[:few], train.targets[:few])
        return Splits(train, *others)


@lru_cache(maxsize=2)
def splits(data: str, seed: int) -> Splits:
    """The images of a set, split and shuffled by a seed."""
    everything = 10**6
    found = load(
        data,
        seed=seed,
        batch_size=everything,
        input_size=SIZES[data],
        validation=VALIDATION,
        test=TEST,
    )
    assert found.validation is not None
    parts = (next(iter(b)) for b in (found.train.epoch(0), found.validation, found.test))
    return Splits(*(TensorSamples(images, targets) for images, targets in parts))


@lru_cache(maxsize=8)
def template(own: Net, other: Net, task: Task, taught: Task, layers: Layers) -> Pair:
    """A student and a teacher that are compiled and paired, with any weights."""
    channels, side, _ = SIZES[task.data]
    nets = (
        cifar_resnet(net.depth, width=net.width, in_chans=channels, image_size=side, **classes)
        for net, classes in (
            (own, {"num_classes": task.classes}),
            (other, {"num_classes": taught.classes}),
        )
    )
    return fxtransport.pair(*nets, layers, verify=False)


class Schooling(NamedTuple):
    """How a network trains."""

    lr: float
    epochs: int
    batch: int


def fresh(program: Program, seed: int) -> Program:
    """A copy with new weights."""
    torch.manual_seed(seed)
    copied = copy.deepcopy(program)
    initialize(copied, "kaiming", 1.0)
    for module in copied.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
    return copied


def fit(
    program: Program,
    samples: TensorSamples,
    how: Schooling,
    seed: int,
    transfer: Transfer | None = None,
) -> None:
    """Train a program on samples."""
    trainer = Trainer(
        program,
        plain(),
        EndToEnd(how.epochs),
        optimizer=OptimizerSettings("momentum", how.lr, weight_decay=0.0, scheduler="cosine"),
        settings=TrainerSettings(seed=seed),
        transfer=transfer,
    )
    # a batch of one has no plan that says anything, and no batch norm
    trainer.fit(ShuffledStream(samples, how.batch, seed, drop_last=len(samples) > how.batch))


@lru_cache(maxsize=4)
def teacher_state(net: Net, task: Task, seed: int, epochs: int) -> dict[str, Tensor]:
    """The weights of a teacher that was trained on all images of a task."""
    pair = template(net, net, task, task, PENULTIMATE)
    program = fresh(pair.student, 10_000 + seed)
    samples = splits(task.data, seed).of(task).train
    fit(program, samples, Schooling(TEACHER_LR, epochs, TEACHER_BATCH), seed)
    return program.model_state_dict()


def accuracy(program: Program, samples: TensorSamples) -> float:
    """In %."""
    [found] = evaluate(program, OrderedStream(samples, 512))
    return 100 * found.accuracy


class Plan(NamedTuple):
    """One training of a student."""

    task: Task
    taught: Task
    """What the teacher learned."""
    own: Net
    other: Net
    regularizer: str
    """As ``fxtransport transfer`` takes it."""
    layers: Layers
    start: str
    """``scratch``, ``teacher``, or ``light``: pre-trained on few of the teacher's images."""
    few: int
    how: Schooling
    seed: int
    split: str
    """``validation`` or ``test``."""


def train(plan: Plan, teacher_epochs: int = TEACHER_EPOCHS) -> float:
    """Train a student near to its teacher, and return its accuracy in %."""
    pair = template(plan.own, plan.other, plan.task, plan.taught, plan.layers)
    state = teacher_state(plan.other, plan.taught, plan.seed, teacher_epochs)
    taught = copy.deepcopy(pair.teacher.program)
    taught.load_state_dict(state)
    teacher = Teacher(taught, [layers.teacher for layers in pair.layers])
    student = fresh(pair.student, plan.seed)
    if plan.start == "teacher":
        copy_weights(state, student, "the teacher")
    elif plan.start == "light":
        copy_weights(_light(plan, teacher_epochs), student, "the lightly pre-trained student")
    given = splits(plan.task.data, plan.seed).of(plan.task, plan.few)
    own = Pair(student, teacher, pair.layers)
    transfer = None if plan.regularizer == "none" else own.transfer(plan.regularizer)
    fit(student, given.train, plan.how, plan.seed, transfer)
    return accuracy(student, given.validation if plan.split == "validation" else given.test)


def _light(plan: Plan, epochs: int) -> dict[str, Tensor]:
    """The weights of a student that was trained on few of the teacher's images."""
    pair = template(plan.own, plan.own, plan.taught, plan.taught, PENULTIMATE)
    program = fresh(pair.student, 20_000 + plan.seed)
    samples = splits(plan.taught.data, plan.seed).of(plan.taught).train
    few = len(samples) // PRETRAINED_SHARE
    some = TensorSamples(samples.inputs[:few], samples.targets[:few])
    fit(program, some, Schooling(TEACHER_LR, epochs, TEACHER_BATCH), plan.seed)
    return program.model_state_dict()
