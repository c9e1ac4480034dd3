"""Damages of files, each drawn from a seed: what disks, editors, copies and forgers do to them."""

import json
import os
import random
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzzing.forging import forge_entry, forge_tensors

ODD = (None, True, -1, 0, 3, 7, 1e-2, 1e300, 10**29, float("nan"), "x", "../x", [], {}, [[1]])
"""What takes the place of values."""
TEXTS = (".json", ".toml", ".csv", ".txt", ".py")
KINDS = ("link", "broken link", "link to itself", "device", "folder", "pipe", "socket")
NO_TEXT = (b"", b"\0", b"\xff\xfe", b"[" * 10**5, b'{"format": 3, "format": 3}', b"null", b"{}")
"""What takes the place of text."""


@dataclass(frozen=True)
class Folder:
    """A folder that is damaged.

    Attributes:
        path: Where it is.
        files: Its files, without those of the user's.
        other: A whole folder of the same kind, of another program, run or detector.
        elsewhere: Where a file can be put to which a link leads; its copy lies beside it.
    """

    path: Path
    files: tuple[Path, ...]
    other: Path
    elsewhere: Path

    def named(self, path: Path) -> str:
        """A file's name in it."""
        return str(path.relative_to(self.path))


Damage = Callable[[random.Random, Path, Folder], str]
"""Damages a file, or another one of its folder, and says how."""


def truncated(draw: random.Random, path: Path, _: Folder) -> str:
    """A file that was not written to its end."""
    kept = draw.randrange(max(path.stat().st_size, 1))
    os.truncate(path, kept)
    return f"to {kept}"


def flipped_bit(draw: random.Random, path: Path, _: Folder) -> str:
    """One bit is another."""
    content = bytearray(path.read_bytes())
    place = draw.randrange(len(content))
    content[place] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    return f"at {place}"


def zeros(draw: random.Random, path: Path, _: Folder) -> str:
    """A sector that was not written."""
    content = bytearray(path.read_bytes())
    start = draw.randrange(len(content))
    end = min(len(content), start + draw.choice([1, 16, 4096]))
    content[start:end] = bytes(end - start)
    path.write_bytes(content)
    return f"from {start} to {end}"


def more(draw: random.Random, path: Path, _: Folder) -> str:
    """Something is added to a file."""
    added = draw.choice([b"\0", b"{}", b"\n[data]\n", b"\xff" * 64, b"1,2,3\n"])
    with path.open("ab") as file:
        file.write(added)
    return f"{added[:8]!r}"


def swapped(draw: random.Random, path: Path, folder: Folder) -> str:
    """Two files change places."""
    other = draw.choice(folder.files)
    one, two = path.read_bytes(), other.read_bytes()
    path.write_bytes(two)
    other.write_bytes(one)
    return f"with {folder.named(other)}"


def of_another(draw: random.Random, path: Path, folder: Folder) -> str:
    """A file of another program, run or detector takes the place of one."""
    same = folder.other / folder.named(path)
    files = [p for p in sorted(folder.other.rglob("*")) if p.suffix == path.suffix]
    chosen = same if same.exists() and draw.random() < 0.7 else draw.choice(files)
    shutil.copyfile(chosen, path)
    return f"by {chosen.name}"


def renamed(draw: random.Random, path: Path, folder: Folder) -> str:
    """A file gets another name, which may be that of another one."""
    new = draw.choice([path.with_name(f"{path.name}.bak"), *folder.files])
    path.replace(new)
    return f"to {folder.named(new)}"


def missing(_: random.Random, path: Path, __: Folder) -> str:
    """There is no such file."""
    path.unlink()
    return ""


def of_another_kind(draw: random.Random, path: Path, folder: Folder) -> str:
    """A link, a pipe, a device, a socket or a folder takes the place of a file."""
    for copy in (folder.elsewhere, folder.elsewhere.with_suffix(".copy")):
        shutil.copyfile(path, copy)
    path.unlink()
    kind = draw.choice(KINDS)
    match kind:
        case "link":
            path.symlink_to(folder.elsewhere)
        case "broken link":
            path.symlink_to("nowhere")
        case "link to itself":
            path.symlink_to(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case _:
            with socket.socket(socket.AF_UNIX) as made:
                _bind(made, path)
    return f"a {kind}"


def _bind(made: socket.socket, path: Path) -> None:
    # names of sockets have at most a hundred bytes
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        made.bind(f"/proc/self/fd/{descriptor}/{path.name}")
    finally:
        os.close(descriptor)


def huge(_: random.Random, path: Path, __: Folder) -> str:
    """A file of a terabyte, which takes no place on the disk."""
    os.truncate(path, 2**40)
    return ""


def no_text(draw: random.Random, path: Path, folder: Folder) -> str:
    """Something else is in the place of text."""
    path = _text(draw, folder)
    found = draw.choice(NO_TEXT)
    path.write_bytes(found)
    return f"{folder.named(path)} is {found[:8]!r}"


def another_value(draw: random.Random, path: Path, folder: Folder) -> str:
    """Of JSON, anywhere; of text, a line."""
    path = _text(draw, folder)
    if path.suffix == ".json":
        found = json.loads(path.read_text())
        said = change(draw, found)
        path.write_text(json.dumps(found))
        return f"{folder.named(path)} {said}"
    lines = path.read_text().splitlines()
    place = draw.randrange(len(lines))
    before = lines[place]
    key, equals, _ = before.partition(" = ")
    values = ["1", "2", "0.5", "true", "'x'", "[]", "{}", "1e300", "1" + "0" * 29, "nan"]
    lines[place] = f"{key} = {draw.choice(values)}" if equals else draw.choice(["", "x", ",,,"])
    if draw.random() < 0.2:
        del lines[place]
    path.write_text("\n".join(lines) + "\n")
    return f"{folder.named(path)}, line {place + 1}: {before[:60]}"


def two(draw: random.Random, path: Path, folder: Folder) -> str:
    """Two files, each damaged in a way of its own."""
    first, second = draw.sample(folder.files, 2)
    ways = [truncated, flipped_bit, zeros, more, of_another, huge]
    said = [draw.choice(ways)(draw, each, folder) for each in (first, second)]
    return f"{folder.named(first)} {said[0]}, {folder.named(second)} {said[1]}"


def forged_entry(draw: random.Random, _: Path, folder: Folder) -> str:
    """Another value in JSON, under the right hashes: by someone who knows how they are made."""
    return forge_entry(folder.path, lambda found: change(draw, found), draw)


def forged_tensors(draw: random.Random, _: Path, folder: Folder) -> str:
    """Tensors of another type, shape, name or value, under the right hashes."""
    return forge_tensors(folder.path, folder.files, draw)


def _text(draw: random.Random, folder: Folder) -> Path:
    return draw.choice([p for p in folder.files if p.suffix in TEXTS])


def change(draw: random.Random, found: Any) -> str:
    """Replace or remove a value somewhere inside lists and objects."""
    place = ""
    while True:
        keys = list(found) if isinstance(found, dict) else range(len(found))
        key = draw.choice(list(keys))
        inner, place = found[key], f"{place}.{key}"
        if not isinstance(inner, dict | list) or not inner or draw.random() < 0.1:
            break
        found = inner
    if draw.random() < 0.2:
        del found[key]
        return f"{place} removed"
    near = [inner + 1, inner * 2] if type(inner) in (int, float) else []
    found[key] = draw.choice([*ODD, *near])
    return f"{place} = {found[key]!r:.40}"


FORGED: tuple[Damage, ...] = (forged_entry, forged_tensors)
"""Those with the right hashes, so that other numbers may follow."""
DAMAGES: tuple[Damage, ...] = (
    truncated,
    flipped_bit,
    zeros,
    more,
    swapped,
    of_another,
    renamed,
    missing,
    of_another_kind,
    huge,
    no_text,
    another_value,
    another_value,
    another_value,
    two,
    *FORGED,
    *FORGED,
)
