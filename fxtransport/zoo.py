"""The zoo: compile every model of a list, in worker processes, and say what came of each.

A model is studied on the meta device, so that its size costs no memory. A worker that crashes
or takes too long is replaced, and its model recorded as refused; the others go on.
"""

import gc
import json
import math
import platform
import re
import signal
import sys
import time
import warnings
from collections import Counter, deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from importlib.metadata import version
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from statistics import median
from typing import Any, TextIO

import torch
from torch import nn

from fxtransport.compiler import compile_passes, example_of
from fxtransport.errors import FxTransportError, PartitionError, UsageError
from fxtransport.ir import (
    Balance,
    Boundaries,
    HeadKind,
    Kind,
    Layers,
    PartitionPlan,
    Residuals,
    VerificationReport,
)
from fxtransport.models import ModelSpec, build, input_spec, resolve
from fxtransport.passes.base import Pass, Unit
from fxtransport.passes.blame import MODEL_ERRORS, first_line
from fxtransport.passes.boundaries import FindBoundaries
from fxtransport.passes.costs import CountCosts
from fxtransport.passes.partition import Partition
from fxtransport.passes.pipeline import run_passes

MODULES = (2, 4, 8)
"""The K for which a cut is tried."""
SIZES = (64, 128)
"""Heights and widths that are tried for verification before the model's own."""
TIMEOUT = 120.0
"""Seconds for one model."""
STARTUP = 120.0
"""Seconds for a worker to start, on top."""
GRACE = 1.0
"""Seconds for a worker to leave by itself."""

_SUBJECT = re.compile(r"^(?:[^()]*\(\w+\) |\S+: )")
"""Whom a message is about: ``blocks.0 (Block) …`` or ``timm:name: …``."""
_REST = re.compile(r" at \S+:\d+|[,:;.](?:\s|$).*| \(.*", re.DOTALL)
"""What follows the first clause of a message."""
_PLACE = re.compile(r"/\S*/(?:site|dist)-packages/")


@dataclass(frozen=True)
class Refusal:
    """Why a model has no program."""

    error: str
    """The error's class, or ``Crash`` or ``Timeout``."""
    slug: str
    """The first clause of the reason, without the names of models, modules and files."""
    reason: str

    @property
    def kind(self) -> str:
        """The class of the reason, by which refusals are counted."""
        return f"{self.error}: {self.slug}"


@dataclass(frozen=True)
class Verified:
    """What the comparison with the model found."""

    size: tuple[int, ...]
    """The input's shape without the batch."""
    errors: dict[str, float | None]
    """The largest error in each mode; None where the model itself refuses the input."""


@dataclass(frozen=True)
class Record:
    """What came of one model."""

    model: str
    family: str
    seconds: float
    parameters: int | None = None
    nodes: int | None = None
    residuals: dict[str, int] = field(default_factory=dict)
    """How many there are of each kind."""
    layers: int | None = None
    """Equal-dimension layers."""
    boundaries: int | None = None
    """Where a single tensor crosses."""
    wide: int | None = None
    """Boundaries where several tensors cross."""
    imbalances: dict[str, float | None] = field(default_factory=dict)
    """For each K the imbalance of the activations, None if it cannot be cut so."""
    verified: Verified | None = None
    """None if it was not asked for, or failed."""
    refusal: Refusal | None = None

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """The record of a line."""
        entry: dict[str, Any] = json.loads(text)
        if entry["verified"]:
            found = entry["verified"]
            entry["verified"] = Verified(tuple(found["size"]), found["errors"])
        if entry["refusal"]:
            entry["refusal"] = Refusal(**entry["refusal"])
        return cls(**entry)


def study(name: str, verify_below: int = 0) -> Record:
    """Compile one model without numbers and say what was found.

    Args:
        name: As :func:`fxtransport.models.resolve` takes it.
        verify_below: Compare numbers, in both modes, if the model has fewer parameters.

    >>> record = study("torchvision:resnet18")
    >>> record.residuals, sorted(record.imbalances)
    ({'identity': 5, 'projection': 3}, ['2', '4', '8'])
    """
    start = time.perf_counter()
    spec = resolve(name)
    record = Record(spec.canonical, family(spec), 0.0)
    try:
        model = build(spec, device="meta")
        record = _structure(record, model, spec)
        assert record.parameters is not None
        if record.parameters < verify_below:
            record = replace(record, verified=_verify(spec, model, record))
    except (FxTransportError, SyntaxError, *MODEL_ERRORS) as error:
        # a SyntaxError is the compiler's own: code that it generated and Python cannot read
        record = replace(record, refusal=refusal_of(error))
    return replace(record, seconds=round(time.perf_counter() - start, 3))


def family(spec: ModelSpec) -> str:
    """Where a model belongs: the source file that defines it, behind its library.

    >>> family(resolve("timm:deit_tiny_patch16_224")), family(resolve("torchvision:fcn_resnet50"))
    ('timm:deit', 'torchvision:segmentation.fcn')
    """
    if spec.library == "timm":
        import timm

        builder = timm.models.model_entrypoint(spec.name.partition(".")[0])
    elif spec.library == "torchvision":
        import torchvision

        builder = torchvision.models.get_model_builder(spec.name)
    else:
        return f"file:{Path(spec.name.rpartition(':')[0]).stem}"
    return f"{spec.library}:{builder.__module__.removeprefix(f'{spec.library}.models.')}"


def refusal_of(error: Exception) -> Refusal:
    """Why a model was refused, in words that many models can share.

    >>> from fxtransport.errors import TraceError
    >>> refusal_of(TraceError("blocks.0 (Block) raised KeyError at net.py:3: 'width'.")).kind
    'TraceError: raised KeyError'
    """
    reason = " ".join(_PLACE.sub("", str(error) or type(error).__name__).split())
    slug = _REST.sub("", _SUBJECT.sub("", _PLACE.sub("", first_line(error)), count=1))
    return Refusal(type(error).__name__, slug, reason)


def _structure(record: Record, model: nn.Module, spec: ModelSpec) -> Record:
    shape = input_spec(model, spec).shape
    unit = Unit(model, example_of(model, torch.empty(2, *shape, device="meta")))
    unit = run_passes(unit, [CountCosts(), FindBoundaries()])
    # what is left of a compile: it may refuse, too
    rest = [p for p in _compile_passes(1, verify=False) if not isinstance(p, CountCosts)]
    run_passes(unit, rest)

    boundaries = unit.fact(Boundaries)
    kinds = Counter(residual.kind for residual in unit.fact(Residuals).found)
    return replace(
        record,
        parameters=sum(p.numel() for p in model.parameters()),
        nodes=len(unit.traced().nodes),
        residuals={str(kind): kinds[kind] for kind in Kind if kinds[kind]},
        layers=len(unit.fact(Layers).found),
        boundaries=len(boundaries.found),
        wide=len(boundaries.wide),
        imbalances={str(modules): _imbalance(unit, modules) for modules in MODULES},
    )


def _imbalance(unit: Unit, modules: int) -> float | None:
    try:
        unit = run_passes(unit, [Partition(modules, Balance.WEIGHT)])
    except PartitionError:
        return None
    return round(unit.fact(PartitionPlan).imbalance, 4)


def _verify(spec: ModelSpec, on_meta: nn.Module, record: Record) -> Verified:
    """Compile once more, with numbers, at the smallest input."""
    shape = _smallest(on_meta, input_spec(on_meta, spec).shape)
    torch.manual_seed(0)
    model = build(spec)
    unit = Unit(model, example_of(model, torch.empty(2, *shape, device="meta")))
    modules = 1 if record.imbalances["2"] is None else 2
    unit = run_passes(unit, _compile_passes(modules, verify=True))
    checks = unit.fact(VerificationReport).checks
    errors: dict[str, float | None] = {}
    for mode in ("train", "eval"):
        of_mode = (c.error for c in checks if c.mode == mode and c.refused is None)
        errors[mode] = max(of_mode, default=None)
    return Verified(shape, errors)


def _compile_passes(modules: int, *, verify: bool) -> tuple[Pass, ...]:
    return compile_passes(
        modules=modules, balance=Balance.WEIGHT, head=HeadKind.NONE, verify=verify
    )


def _smallest(model: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The smallest of a few inputs that a model takes in both modes; its own if none."""
    if len(shape) < 3:
        return shape
    for size in SIZES:
        smaller = (*shape[:-2], size, size)
        if size < min(shape[-2:]) and _takes(model, smaller):
            return smaller
    return shape


def _takes(model: nn.Module, shape: tuple[int, ...]) -> bool:
    try:
        with torch.no_grad():
            for mode in (True, False):
                model.train(mode)(torch.empty(2, *shape, device="meta"))
    except MODEL_ERRORS:
        return False
    return True


def sweep(
    names: Sequence[str], *, jobs: int = 1, timeout: float = TIMEOUT, verify_below: int = 0
) -> Generator[Record, None, None]:
    """Study models in worker processes; records come in the order in which they are done.

    Args:
        names: As :func:`fxtransport.models.resolve` takes them.
        jobs: How many workers, each with one thread.
        timeout: Seconds for one model.
        verify_below: See :func:`study`.
    """
    waiting = deque(resolve(name).canonical for name in names)
    workers = [_Worker(timeout, verify_below) for _ in range(jobs)]
    try:
        while True:
            for worker in workers:
                if worker.model is None and waiting:
                    worker.give(waiting.popleft())
            busy = [worker for worker in workers if worker.model is not None]
            if not busy:
                return
            until = min(worker.deadline for worker in busy)
            wait([worker.connection for worker in busy], max(0.0, until - time.monotonic()))
            for worker in busy:
                if record := worker.outcome():
                    yield record
    finally:
        for worker in workers:
            worker.stop(grace=GRACE if worker.model is None else 0.0)


class _Worker:
    """A process that studies one model after the other, and is replaced when it fails."""

    def __init__(self, timeout: float, verify_below: int) -> None:
        self.timeout = timeout
        self.verify_below = verify_below
        self.model: str | None = None
        self.deadline = math.inf
        self.started = 0.0
        self.process: SpawnProcess | None = None
        self.connection: Connection[Any, Any]

    def give(self, model: str) -> None:
        """Have a model studied."""
        startup = 0.0
        if self.process is None or not self.process.is_alive():
            self._start()
            startup = STARTUP
        self.model = model
        self.started = time.monotonic()
        self.deadline = self.started + startup + self.timeout
        with suppress(OSError):  # if it dies right now, outcome() will see
            self.connection.send(model)

    def outcome(self) -> Record | None:
        """The record of the model, if there is one yet."""
        assert self.model is not None
        if not self.connection.poll():
            if time.monotonic() < self.deadline:
                return None
            self.stop(grace=0.0)
            return self._failed("Timeout", f"took more than {self.timeout:g} s")
        try:
            received = self.connection.recv()
        except (EOFError, OSError):  # the process has died
            return self._failed("Crash", f"the process ended with code {self.stop(GRACE)}")
        if received is None:  # it has started
            self.started = time.monotonic()
            self.deadline = self.started + self.timeout
            return None
        assert isinstance(received, Record)
        self.model = None
        return received

    def stop(self, grace: float) -> int | None:
        """End the process, after seconds in which it may do so itself; return its exit code."""
        if self.process is None:
            return None
        self.connection.close()  # at which an idle one leaves
        self.process.join(grace)
        self.process.terminate()
        self.process.join(GRACE)
        self.process.kill()
        self.process.join()
        code = self.process.exitcode
        self.process = None
        return code

    def _start(self) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.verify_below), daemon=True)
        self.process.start()
        theirs.close()  # so that the end of the process is the end of the connection

    def _failed(self, error: str, slug: str) -> Record:
        assert self.model is not None
        spec = resolve(self.model)
        self.model = None
        seconds = round(time.monotonic() - self.started, 3)
        refusal = Refusal(error, slug, f"{spec.canonical}: {slug}")
        return Record(spec.canonical, family(spec), seconds, refusal=refusal)


def _serve(connection: "Connection[Any, Any]", verify_below: int) -> None:
    """Study the models whose names arrive, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that it cleans up
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    # what is imported stays, and need not be looked through for garbage with every model
    import_module("timm")
    import_module("torchvision")
    gc.freeze()
    try:
        _study_what_comes(connection, verify_below)
    finally:
        # libraries that are written in C++ look for leaks when the process ends
        gc.unfreeze()


def _study_what_comes(connection: "Connection[Any, Any]", verify_below: int) -> None:
    connection.send(None)
    while True:
        try:
            name = connection.recv()
        except EOFError:
            return
        with redirect_stdout(sys.stderr):
            record = study(name, verify_below)
        connection.send(record)
        gc.collect()


def header(verify_below: int) -> dict[str, object]:
    """The first line of a file of records: what they depend on."""
    libraries = {name: version(name) for name in ("fxtransport", "torch", "torchvision", "timm")}
    return {**libraries, "python": platform.python_version(), "verify_below": verify_below}


def open_records(file: Path, verify_below: int, *, resume: bool) -> tuple[TextIO, list[Record]]:
    """Open a file to append records, each a line of JSON; with those that it has already.

    A last line that was cut off is dropped.

    Raises:
        UsageError: the file exists and is not to be resumed, is of other versions or
            options, is not a file of records, or cannot be written.
    """
    expected = header(verify_below)
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        if text and not resume:
            raise UsageError(f"{file} exists; resume it (--resume) or give another file")
        whole = text[: text.rfind("\n") + 1]
        records = _parse_records(file, whole, expected) if whole else []
        stream = file.open("a", encoding="utf-8")
        stream.truncate(len(whole.encode()))
        if not whole:
            stream.write(json.dumps(expected) + "\n")
            stream.flush()
    except OSError as error:
        raise UsageError(f"cannot write into {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not a file of records: {first_line(error)}") from error
    return stream, records


def _parse_records(file: Path, text: str, expected: dict[str, object]) -> list[Record]:
    first, *lines = text.splitlines()
    try:
        found = dict(json.loads(first))
        records = [Record.from_json(line) for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} is not a file of records: {first_line(error)}") from error
    differing = [key for key in expected if found.get(key) != expected[key]]
    if differing:
        made = ", ".join(f"{key} {found.get(key)}, not {expected[key]}" for key in differing)
        raise UsageError(f"{file} cannot be resumed: it was made with {made}; give another file")
    return records


@dataclass(frozen=True)
class FamilySummary:
    """What came of the models of one family."""

    family: str
    models: int
    compiled: int
    verified: int
    median_seconds: float
    slowest: str
    slowest_seconds: float

    @property
    def refused(self) -> int:
        """How many have no program."""
        return self.models - self.compiled


def summarize(records: Iterable[Record]) -> tuple[FamilySummary, ...]:
    """What came of each family, in alphabetical order."""
    families: dict[str, list[Record]] = {}
    for record in records:
        families.setdefault(record.family, []).append(record)
    return tuple(summarize_as(name, families[name]) for name in sorted(families))


def summarize_as(name: str, records: Sequence[Record]) -> FamilySummary:
    """What came of some models, one at least, under a name."""
    slowest = max(records, key=lambda record: record.seconds)
    return FamilySummary(
        family=name,
        models=len(records),
        compiled=sum(record.refusal is None for record in records),
        verified=sum(record.verified is not None for record in records),
        median_seconds=median(record.seconds for record in records),
        slowest=slowest.model,
        slowest_seconds=slowest.seconds,
    )


def refusals(records: Iterable[Record]) -> dict[str, tuple[str, ...]]:
    """The models that were refused, by the class of the reason, the most frequent first."""
    found: dict[str, list[str]] = {}
    for record in records:
        if record.refusal is not None:
            found.setdefault(record.refusal.kind, []).append(record.model)
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return {kind: tuple(models) for kind, models in ordered}
