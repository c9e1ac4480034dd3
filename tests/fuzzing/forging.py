"""Change what files say, and make the hashes that are kept of them right."""

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from fxtransport.detecting import folder as detectors
from fxtransport.detection import saved
from fxtransport.training.checkpoint import content_hash

_SEALS: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "checkpoint.json": ("sha256", content_hash),
    "detection.json": ("seal", detectors._seal),
    "detector.json": ("seal", saved._seal),
}
"""Of each file that holds a hash of itself: under which name, and how it is computed."""
_HASH = re.compile(r"[0-9a-f]{16}(?=\.safetensors$)")


def forge_entry(folder: Path, change: Callable[[Any], str], draw: random.Random) -> str:
    """Change a JSON file anywhere.

    Args:
        folder: Where it is.
        change: Changes its content in place, and says how.
        draw: Chooses the file.
    """
    path = draw.choice(sorted(folder.rglob("*.json")))
    found = _unsealed(path)
    said = change(found)
    _write_sealed(path, found)
    return f"{path.name} {said}"


def forge_tensors(folder: Path, files: Iterable[Path], draw: random.Random) -> str:
    """Change one file of tensors, and what describes it.

    Args:
        folder: Where it is.
        files: Those among which it is chosen.
        draw: Chooses it, and what is changed.
    """
    path = draw.choice([file for file in files if file.suffix == ".safetensors"])
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    tensors = load_file(path)
    said = _change(draw, tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    after = hashlib.sha256(path.read_bytes()).hexdigest()
    new = path.with_name(_HASH.sub(after[:16], path.name))
    size = path.stat().st_size
    path.rename(new)
    for each in sorted(folder.rglob("*.json")):
        if each.parent in (path.parent, path.parent.parent):
            found = _replaced(_unsealed(each), {before: after, path.name: new.name}, after, size)
            _write_sealed(each, found)
    listed = path.parent / "files.txt"
    if listed.exists():
        listed.write_text(listed.read_text().replace(path.name, new.name))
    return f"{path.name} {said}"


def _change(draw: random.Random, tensors: dict[str, torch.Tensor]) -> str:
    name, other = draw.choice(sorted(tensors)), draw.choice(sorted(tensors))
    tensor = tensors[name]
    kind = draw.choice(["int64", "float64", "float16", "flat", "deep", "nan", "gone", "more", "as"])
    match kind:
        case "int64":
            tensors[name] = tensor.long()
        case "float64" | "float16":
            # of all, so that it is a program in another precision
            dtype = getattr(torch, kind)
            floating = {n: t.to(dtype) for n, t in tensors.items() if t.is_floating_point()}
            tensors.update(floating)
        case "flat":
            tensors[name] = tensor.reshape(-1)
        case "deep":
            tensors[name] = tensor[None]
        case "nan":
            odd = float("nan") if tensor.is_floating_point() else 2**31
            tensors[name] = torch.full(tensor.shape, odd).to(tensor.dtype)
        case "gone":
            del tensors[name]
        case "more":
            tensors["x"] = torch.zeros(2)
        case _:
            tensors[name], tensors[other] = tensors[other], tensors[name]
    return f"{name} {kind} {other if kind == 'as' else ''}".strip()


def _unsealed(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    if path.name in _SEALS:
        found.pop(_SEALS[path.name][0])
    return found


def _write_sealed(path: Path, found: dict[str, Any]) -> None:
    if path.name in _SEALS:
        name, seal = _SEALS[path.name]
        found = {**found, name: seal(found)}
    path.write_text(json.dumps(found))


def _replaced(found: Any, texts: dict[str, str], sha256: str, size: int) -> Any:
    """JSON with other texts, and another size beside a hash."""
    if isinstance(found, list):
        return [_replaced(each, texts, sha256, size) for each in found]
    if not isinstance(found, dict):
        return texts.get(found, found) if isinstance(found, str) else found
    made = {key: _replaced(value, texts, sha256, size) for key, value in found.items()}
    if made != found and sha256 in made.values():
        made |= {key: size for key in ("size", "weights_size") if key in made}
    return made
