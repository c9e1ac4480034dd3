"""Compile one model on the meta device, where its size takes no memory, and describe it."""

import re
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch

from fxtransport.compiler import compile_passes
from fxtransport.errors import MODEL_ERRORS, FxTransportError, PartitionError, first_line
from fxtransport.example import Example
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
from fxtransport.models import ModelSpec, resolve
from fxtransport.passes.base import Pass
from fxtransport.passes.partition import Partition
from fxtransport.passes.pipeline import run_passes
from fxtransport.submodule import Target, takes, whole_or_backbone
from fxtransport.targets import open_target
from fxtransport.unit import Unit
from fxtransport.zoo.record import Options, Record, Refusal, Verified

MODULES = (2, 4, 8)
"""The K for which a cut is tried."""
SIZES = (64, 128)
"""Heights and widths that are tried for verification before the model's own."""

_SUBJECT = re.compile(r"^(?:[^()]*\(\w+\) |\S+: )")
"""What a message is about: ``blocks.0 (Block) …`` or ``timm:name: …``."""
_REST = re.compile(r" at \S+:\d+|[,:;.](?:\s|$).*| \(.*", re.DOTALL)
"""What follows the first clause of a message."""
_PLACE = re.compile(r"/\S*/(?:site|dist)-packages/")


def study(name: str, options: Options | None = None) -> Record:
    """Compile one model on the meta device and record what was found.

    Args:
        name: As :func:`fxtransport.models.resolve` takes it.
        options: What else is asked of it.

    >>> record = study("torchvision:resnet18")
    >>> record.residuals, sorted(record.imbalances)
    ({'identity': 5, 'projection': 3}, ['2', '4', '8'])
    """
    options = options or Options()
    start = time.process_time()
    spec = resolve(name)
    record = Record(spec.canonical, family(spec), 0.0)
    refused = (FxTransportError, SyntaxError, *MODEL_ERRORS)
    # a SyntaxError is the compiler's own: code that it generated and Python cannot read
    try:
        record, part = _compiled(record, spec, options.submodule)
        record = replace(record, seconds=_since(start))
    except refused as error:
        return replace(record, refusal=refusal_of(error), seconds=_since(start))
    assert record.parameters is not None
    if record.parameters >= options.verify_below:
        return record
    try:
        return replace(record, verified=_verify(spec, part, record))
    except refused as error:
        return replace(record, refusal=refusal_of(error))


def family(spec: ModelSpec) -> str:
    """The family of a model: its library, and the source file that defines it.

    >>> family(resolve("timm:deit_tiny_patch16_224")), family(resolve("torchvision:fcn_resnet50"))
    ('timm:deit', 'torchvision:segmentation.fcn')
    >>> family(resolve("nets:resnet110"))
    'nets'
    """
    if spec.library == "timm":
        import timm

        builder = timm.models.model_entrypoint(spec.name.partition(".")[0])
    elif spec.library == "torchvision":
        import torchvision

        builder = torchvision.models.get_model_builder(spec.name)
    elif spec.library == "nets":
        return "nets"
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


def _since(start: float) -> float:
    return round(time.process_time() - start, 3)


def _compiled(record: Record, spec: ModelSpec, submodule: str | None) -> tuple[Record, Target]:
    target = open_target(spec, submodule=submodule, device="meta")

    def structure(part: Target) -> tuple[Record, Target]:
        return _structure(record, part), part

    found, part = whole_or_backbone(target, structure)
    if part.refusal is not None:
        found = replace(found, whole=refusal_of(part.refusal))
    return found, part


def _structure(record: Record, part: Target) -> Record:
    passes = _compile_passes(1, verify=False)
    # a whole compile, for it may refuse; what has run for the partition is not run again
    unit = run_passes(Unit(part.model, part.example), passes)

    boundaries = unit.fact(Boundaries)
    kinds = Counter(residual.kind for residual in unit.fact(Residuals).found)
    return replace(
        record,
        submodule=part.path or None,
        parameters=sum(p.numel() for p in part.model.parameters()),
        nodes=len(unit.traced().nodes),
        residuals={str(kind): kinds[kind] for kind in Kind if kinds[kind]},
        layers=len(unit.fact(Layers).found),
        boundaries=len(boundaries.single),
        wide=len(boundaries.multiple),
        imbalances={str(modules): _imbalance(unit, modules) for modules in MODULES},
    )


def _imbalance(unit: Unit, modules: int) -> float | None:
    try:
        unit = run_passes(unit, [Partition(modules, Balance.ACTIVATIONS)])
    except PartitionError:
        return None
    return round(unit.fact(PartitionPlan).imbalance, 4)


def _verify(spec: ModelSpec, on_meta: Target, record: Record) -> Verified:
    """Compile once more, not on the meta device, and verify at the smallest input."""
    start = time.process_time()
    example = _smallest(on_meta)
    torch.manual_seed(0)
    target = open_target(spec, submodule=on_meta.path, example=example)
    modules = 1 if record.imbalances["2"] is None else 2
    unit = Unit(target.model, target.example)
    unit = run_passes(unit, _compile_passes(modules, verify=True))
    checks = unit.fact(VerificationReport).checks
    errors: dict[str, float | None] = {}
    for mode in ("train", "eval"):
        of_mode = (c.error for c in checks if c.mode == mode and c.refused is None)
        errors[mode] = max(of_mode, default=None)
    return Verified(tuple(tuple(x.shape[1:]) for x in example.tensors), errors, _since(start))


def _compile_passes(modules: int, *, verify: bool) -> tuple[Pass, ...]:
    return compile_passes(
        modules=modules, balance=Balance.ACTIVATIONS, head=HeadKind.NONE, verify=verify
    )


def _smallest(part: Target) -> Example:
    """The smallest of a few inputs that a model takes in both modes; its own if none."""
    own = part.example
    if min(x.dim() for x in own.tensors) < 4:
        return own
    for size in SIZES:
        smaller = own.with_size(size, size)
        if all(size < min(x.shape[-2:]) for x in own.tensors) and takes(part.model, smaller):
            return smaller
    return own
