"""Attacked images on disk, found by what they were made of."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fxtransport.errors import UsageError
from fxtransport.files import path_beside, put

FORMAT = "1"


def content_hash(text: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of values that JSON can hold, and of named tensors with their types."""
    digest = hashlib.sha256(json.dumps(text, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        kept = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {kept.dtype} {tuple(kept.shape)}".encode())
        digest.update(kept.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def store(path: Path, key: str, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a file of safetensors, atomically, with their key and a checksum.

    Raises:
        UsageError: the file cannot be written.
    """
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    about = {"format": FORMAT, "key": key, "sha256": content_hash({}, kept)}
    try:
        with path_beside(path) as beside:
            save_file(kept, beside, about)
            put(beside, path)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"attacked images cannot be written to {path}: {error}") from error


def fetch(path: Path, key: str) -> dict[str, Tensor] | None:
    """The tensors that :func:`store` wrote there under this key; None if there is no file.

    Raises:
        UsageError: the file is damaged, or of something else.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise _damaged(path, str(error)) from error
    if about.get("format") != FORMAT or about.get("key") != key:
        raise _damaged(path, "it is not of this attack on these images")
    if about.get("sha256") != content_hash({}, tensors):
        raise _damaged(path, "its checksum does not fit its content")
    return tensors


def _damaged(path: Path, reason: str) -> UsageError:
    return UsageError(f"{path} does not hold attacked images: {reason}; delete it")
