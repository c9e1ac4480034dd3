"""The configuration of a run: merged, completed with defaults, checked, written and read."""

import difflib
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fxtransport.errors import UsageError, first_line
from fxtransport.files import read_text
from fxtransport.runs import toml
from fxtransport.runs.combinations import CHECKPOINTED, LENGTHS, Values, check_together
from fxtransport.runs.keys import DefaultBy, Key, all_keys
from fxtransport.runs.keys.transfer import ONLY_START

KINDS: dict[type, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list of texts",
    tuple: "a list of numbers",
    dict: "a table",
}
ITEMS: dict[type, type] = {list: str, tuple: float}
"""What the kinds of several values hold."""

NUMBERS = re.compile(r"[-+.\deE\s]+(,[-+.\deE\s]+)+")
"""Several numbers, such as ``0.5,1``."""

SWITCHES = {"True": True, "False": False}
"""Truth values as Python writes them."""

LIMIT = 2**20
"""The most bytes of a configuration file."""

LARGEST = 3e38
"""The largest number that is not whole, nearly that of float32."""

CONFIG = "config.toml"
"""The file in a run's folder."""

FOUND = ("splits", "history")
"""Tables of the file that say what was found, and set nothing."""

RENAMED = {
    "data.train_images": "data.train_samples",
    "model.image_size": "model.input_size",
    "objective.doubled": "objective.tau, which takes a list",
    "objective.every": "objective.update_every",
    "objective.fixed_weight": "objective.lambda0",
    "program.weight": "program.balance",
    "trainer.drift": "trainer.update_frozen_bn",
}
"""Keys of earlier versions, and what replaces them."""


@dataclass(frozen=True)
class Config:
    """Everything that is set for a run, defaults included.

    Args:
        values: By path; the keys that have a meaning and a value.
    """

    values: Values
    given: frozenset[str] = field(default=frozenset(), compare=False)
    """The paths of what was set; the rest are defaults."""

    def __getitem__(self, path: str) -> Any:
        """The value of a key that always has one."""
        return self.values[path]

    def get(self, path: str) -> Any:
        """The value of a key; None if it has none."""
        assert path in all_keys(), path
        return self.values.get(path)

    def section(self, name: str) -> dict[str, Any]:
        """The values of a table, by their names in it."""
        prefix = f"{name}."
        return {p.removeprefix(prefix): v for p, v in self.values.items() if p.startswith(prefix)}

    def to_toml(self, found: Mapping[str, Mapping[str, Any]] | None = None) -> str:
        """The text of its file.

        Args:
            found: Further tables, of :data:`FOUND`.
        """
        sections = dict.fromkeys(key.section for key in all_keys().values())
        tables = {**{name: self.section(name) for name in sections}, **(found or {})}
        return toml.dumps({name: table for name, table in tables.items() if table})

    def with_changes(self, changes: Values, run: object, *, extend: bool = False) -> "Config":
        """The same run with other values of what may change when it is resumed.

        Args:
            changes: The other values.
            run: Its folder, for the error.
            extend: Whether what counts from there on may change, too.

        Raises:
            UsageError: a value changes that must not.
        """
        changed = complete_config(replace_values(self.values, changes))
        for path, value in changes.items():
            key = all_keys()[path]
            if key.may_change(self.values) or changed.get(path) == self.get(path):
                continue
            if extend and key.continues(self.values):
                continue
            was = "not set" if self.get(path) is None else f"{self.get(path)}"
            raise UsageError(
                f"{path} {value} would change the run in {run}, where it is {was}; leave it out, "
                "or begin another run in another folder, with model.initial_checkpoint from its "
                "weights"
            )
        return changed


def complete_config(values: Values) -> Config:
    """What was set, with defaults for the rest.

    Raises:
        UsageError: a value is of the wrong kind, out of range, or without a meaning beside the
            others.
    """
    checked = {path: _check(all_keys()[path], value) for path, value in values.items()}
    found = {}
    for path, key in all_keys().items():
        value = _lookup(checked, key)
        if value is not None and value != {}:
            found[path] = value
    check_together(checked, found)
    if not found.get("transfer.regularizer"):
        kept = ONLY_START if found.get("transfer.start") else ()
        dropped = [p for p in found if p.startswith("transfer.") and p not in kept]
        found = {p: value for p, value in found.items() if p not in dropped}
    if found.get("program.blockwise") or found.get("program.cuts"):
        # the number of parts follows
        found.pop("program.modules")
    return Config(found, frozenset(checked))


def merge_values(*layers: Values) -> dict[str, Any]:
    """What several layers set, where later ones win; tables are merged."""
    total: dict[str, Any] = {}
    for layer in layers:
        for path, value in layer.items():
            before = total.get(path)
            tables = isinstance(before, dict) and isinstance(value, dict)
            total[path] = dict(before or {}, **value) if tables else value
    return total


def replace_values(values: Values, changes: Values) -> dict[str, Any]:
    """Values with others in their place; tables are merged.

    Of the keys that say how long a run trains, one takes the place of another, and so does one of
    those that say which blocks are computed again.
    """
    for alike in (LENGTHS, CHECKPOINTED):
        if not changes.keys().isdisjoint(alike):
            values = {path: value for path, value in values.items() if path not in alike}
    return merge_values(values, changes)


def read_config(path: Path, *, follow: bool = True) -> dict[str, Any]:
    """What a configuration file sets.

    Args:
        path: The file.
        follow: Whether it may be a link to a file.

    Raises:
        UsageError: it cannot be read, or has a key that does not exist.
    """
    try:
        tables = tomllib.loads(read_text(path, limit=LIMIT, follow=follow))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (RecursionError, ValueError) as error:
        raise UsageError(f"{path} is not valid TOML: {first_line(error):.300}") from error
    values = {}
    for section, table in tables.items():
        if section in FOUND:
            continue
        if not isinstance(table, dict):
            raise UsageError(f"{path}: {section} is not in a section such as [model]")
        for name, value in table.items():
            found = f"{section}.{name}"
            if found not in all_keys():
                raise UsageError(f"{path}: {unknown_key(found)}")
            values[found] = value
    return values


def default_of(path: str) -> Any:
    """The value of a key that is not set, where that depends on no other key; else None."""
    default = all_keys()[path].default
    return None if isinstance(default, DefaultBy) else default


def parse_assignments(texts: Iterable[str]) -> dict[str, Any]:
    """What ``--set section.key=value`` sets; one more name sets an entry of a table.

    >>> parse_assignments(["optimizer.lr=0.1", "data.mixup.mixup_alpha=0.2"])
    {'optimizer.lr': 0.1, 'data.mixup': {'mixup_alpha': 0.2}}

    Raises:
        UsageError: there is no such key, or no value.
    """
    values: dict[str, Any] = {}
    for text in texts:
        path, value = parse_pair(text)
        table, _, name = path.rpartition(".")
        key = all_keys().get(path)
        if key is not None:
            is_text = key.kind is str and not isinstance(value, str)
            values[path] = text.partition("=")[2] if is_text else value
        elif table in all_keys() and all_keys()[table].kind is dict:
            values.setdefault(table, {})[name] = value
        else:
            raise UsageError(unknown_key(path))
    return values


def parse_pair(text: str) -> tuple[str, Any]:
    """A name and its value: a TOML value, numbers with commas between them, or else a text.

    ``True`` and ``False`` are written as in Python, too: a text of that name would be true.

    >>> parse_pair("scale=[0.8, 1.0]"), parse_pair("interpolation=bicubic")
    (('scale', [0.8, 1.0]), ('interpolation', 'bicubic'))
    >>> parse_pair("scale=0.8,1")
    ('scale', [0.8, 1])
    >>> parse_pair("mixup_alpha=.3")
    ('mixup_alpha', 0.3)
    >>> parse_pair("zero_init_last=False")
    ('zero_init_last', False)

    Raises:
        UsageError: there is no ``=``.
    """
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"write KEY=VALUE, not {text!r}")
    if value.strip() in SWITCHES:
        return name.strip(), SWITCHES[value.strip()]
    listed = f"[{value}]" if NUMBERS.fullmatch(value) else value
    try:
        # TOML wants a digit ahead of the point
        number = re.sub(r"^([+-]?)\.(?=\d)", r"\g<1>0.", listed.strip())
        return name.strip(), tomllib.loads(f"value = {number}")["value"]
    except (RecursionError, ValueError):
        return name.strip(), value


def unknown_key(path: str) -> str:
    """An error that there is no such key, with those that are similar."""
    if path in RENAMED:
        return f"the key {path!r} has been replaced: use {RENAMED[path]}"
    keys = all_keys()
    last = path.rpartition(".")[2]
    same = [known for known in keys if known.rpartition(".")[2] == last]
    close = same or difflib.get_close_matches(path, keys, n=3)
    hint = f"did you mean {', '.join(close)}?" if close else f"the keys are {', '.join(keys)}"
    return f"there is no key {path!r}: {hint}"


def _lookup(values: Values, key: Key) -> Any:
    """The value of a key; None where it has none, or no meaning."""
    if key.path in values:
        return values[key.path]
    default = key.default
    while isinstance(default, DefaultBy):
        default = default.values.get(_lookup(values, all_keys()[default.path]))
    return list(default) if isinstance(default, tuple) else default


def _check(key: Key, value: Any) -> Any:
    """A value in the form that its key has."""
    if key.read is not None:
        try:
            value = key.read(value)
        except UsageError as error:
            raise UsageError(f"{key.path}: {error}") from error
    if key.kind is float and type(value) is int:
        value = float(value)
    if not _fits(key, value):
        raise UsageError(f"{key.path} is {KINDS[key.kind]}, not {value!r}")
    for item in value if key.kind in ITEMS else [value]:
        if key.choices and item not in key.choices:
            raise UsageError(f"{key.path} is one of {', '.join(key.choices)}, not {item!r}")
    _check_size(key.path, value, key.most)
    if key.least is not None and value < key.least:
        raise UsageError(f"{key.path} is at least {key.least}, not {value}")
    return value


def _check_size(path: str, value: Any, most: float) -> None:
    """Check that a number, or each number in a list or table, is not huge."""
    largest = LARGEST if isinstance(value, float) else most
    if isinstance(value, int | float) and abs(value) > largest:
        raise UsageError(f"{path} is at most {largest}, not {value!s:.40}")
    if isinstance(value, dict | list):
        for inside in value.values() if isinstance(value, dict) else value:
            _check_size(path, inside, most)


def _fits(key: Key, value: Any) -> bool:
    """Whether a value is of the key's kind, and its numbers are finite."""
    if key.kind in ITEMS and not isinstance(value, list):
        return False
    items: list[Any] = value if key.kind in ITEMS else [value]
    kind = int if key.whole else ITEMS.get(key.kind, key.kind)
    infinite = any(isinstance(item, float) and not math.isfinite(item) for item in items)
    return not infinite and all(type(item) is kind for item in items)
