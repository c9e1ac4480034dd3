"""Hashes by which samples, and streams of them, are known again."""

import hashlib
import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def fingerprint(samples: Any) -> str | None:
    """A hash of what samples are, in their order; None where they do not tell.

    Args:
        samples: Those of :mod:`fxtransport.data.streams` tell by a method of this name.
    """
    tell = getattr(samples, "fingerprint", None)
    return tell() if callable(tell) else None


def combined(*pieces: object) -> str | None:
    """A hash of hashes, numbers and texts; None if one of them is None."""
    if any(piece is None for piece in pieces):
        return None
    return hashlib.sha256("\0".join(map(str, pieces)).encode()).hexdigest()


def tensors_hash(tensors: Iterable[Tensor]) -> str:
    """A hash of the dtypes, shapes and values of tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def named(function: object) -> str:
    """A transform as text, which is the same in another process."""
    text = repr(function)
    if " at 0x" not in text:
        return text
    plain = {k: v for k, v in vars(function).items() if isinstance(v, int | float | str | tuple)}
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text) + (f" {plain}" if plain else "")
