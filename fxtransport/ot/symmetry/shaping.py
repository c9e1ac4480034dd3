"""What operations on shapes do to labels: to a label is done what is done to its tensor."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fxtransport.ot.symmetry.call import Call, tensors_in
from fxtransport.ot.symmetry.labels import Labeled, squeezed, varying
from fxtransport.ot.symmetry.units import Ids, Units

VIEWS = ("view", "_unsafe_view", "_reshape_alias")


def shaped(call: Call) -> Any:
    """The same tensor in another shape, or pieces of it."""
    source, *rest = call.args
    if any(x.labels or x.depends for x in tensors_in(*rest)):
        return call.unknown()
    plain = [_plain(value) for value in rest]
    several = isinstance(call.returned, list | tuple)
    is_view = call.name in VIEWS
    found: list[list[Ids]] = [[] for _ in (call.returned if several else [call.returned])]
    for label in source.labels:
        whole = torch.from_numpy(label).expand(source.shape)
        # an expanded label cannot be viewed where its tensor can
        pieces = whole.reshape(plain[0]) if is_view else call.func(whole, *plain, **call.kwargs)
        for k, piece in enumerate(pieces if several else [pieces]):
            own = squeezed(call.units, piece.numpy())
            _note_choice(call.units, label, own, (id(source.value), k, str(plain)))
            found[k].append(own)
    if not several:
        return call.wrapped(call.returned, found[0])
    pairs = zip(call.returned, found, strict=True)
    return [call.wrapped(each, labels) for each, labels in pairs]


def _note_choice(units: Units, before: Ids, after: Ids, how: object) -> None:
    """Units that an operation takes, where it leaves out others, are not like those."""
    chosen = set(np.unique(after).tolist())
    if len(chosen) < len(np.unique(units.canonical(before))):
        units.recolor(chosen - {0}, how)


def _plain(value: Any) -> Any:
    if isinstance(value, Labeled):
        return value.value
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def joined_pieces(call: Call) -> Any:
    """Tensors one after the other, along a dimension."""
    pieces: list[Labeled] = [x for x in call.args[0] if x.value.numel()]
    dim = (
        int(call.args[1] if len(call.args) > 1 else call.kwargs.get("dim", 0)) % call.returned.dim()
    )
    if call.name == "stack":
        pieces = [_unsqueezed(piece, dim) for piece in pieces]
    along = [[label for label in x.labels if dim in varying(label)] for x in pieces]
    across = [[label for label in x.labels if dim not in varying(label)] for x in pieces]
    found = _concatenated(call.units, pieces, along, dim)
    for dims in dict.fromkeys(varying(label) for labels in across for label in labels):
        own = [[label for label in labels if varying(label) == dims] for labels in across]
        if any(len(labels) != 1 for labels in own):
            for label in (label for labels in own for label in labels):
                call.units.fix(label)
            continue
        first = own[0][0]
        for [label] in own[1:]:
            call.units.unite(first, label)
        found.append(first)
    return call.wrapped(call.returned, found)


def _concatenated(
    units: Units, pieces: list[Labeled], along: list[list[Ids]], dim: int
) -> list[Ids]:
    """The label of pieces whose units follow one another; those without any have fixed order."""
    if not any(along):
        return []
    if any(len(labels) > 1 for labels in along):
        for label in (label for labels in along for label in labels):
            units.fix(label)
        return []
    ndim = pieces[0].value.dim()
    wide = {d for labels in along for label in labels for d in varying(label)} - {dim}
    parts = []
    for piece, labels in zip(pieces, along, strict=True):
        shape = [piece.shape[d] if d == dim or d in wide else 1 for d in range(ndim)]
        label = labels[0] if labels else np.zeros((1,) * ndim, dtype=np.int64)
        parts.append(np.broadcast_to(label, shape))
    return [np.concatenate(parts, axis=dim)]


def _unsqueezed(piece: Labeled, dim: int) -> Labeled:
    labels = tuple(np.expand_dims(label, dim) for label in piece.labels)
    return replace(piece, value=piece.value.unsqueeze(dim), labels=labels)


def padded(call: Call) -> Any:
    """A tensor with zeros around it; as channels, those keep their order."""
    x, pad, *_ = call.args
    wider = {x.value.dim() - 1 - k // 2 for k, size in enumerate(pad) if size}
    found = []
    for label in x.labels:
        own = label
        if varying(label) & wider:
            whole = torch.from_numpy(np.ascontiguousarray(np.broadcast_to(label, x.shape)))
            own = torch.constant_pad_nd(whole, list(pad), 0).numpy()
        found.append(own)
    return call.wrapped(call.returned, found)
