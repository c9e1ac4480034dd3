"""The configuration of a run: put together, completed, checked, written and read."""

import difflib
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from fxtransport.errors import UsageError
from fxtransport.runs import keys_how, keys_what, toml
from fxtransport.runs.keys import By, Key

KEYS: dict[str, Key] = {key.path: key for key in (*keys_what.KEYS, *keys_how.KEYS)}
"""All that can be set, by path, in the order in which it is shown and written."""
KINDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
KINDS |= {list: "a list of texts", dict: "a table"}

CONFIG = "config.toml"
"""The file in a run's folder."""

Values = Mapping[str, Any]
"""What was set, by path."""


@dataclass(frozen=True)
class Config:
    """All that is set about a run, and what follows from it.

    Args:
        values: By path; all that has a meaning and a value.
    """

    values: Values

    def __getitem__(self, path: str) -> Any:
        """The value of a key that always has one."""
        return self.values[path]

    def get(self, path: str) -> Any:
        """The value of a key; None if it has none."""
        assert path in KEYS, path
        return self.values.get(path)

    def section(self, name: str) -> dict[str, Any]:
        """A table's values by their names in it."""
        prefix = f"{name}."
        return {p.removeprefix(prefix): v for p, v in self.values.items() if p.startswith(prefix)}

    def to_toml(self) -> str:
        """The text of its file."""
        sections = [name for name, _ in groupby(KEYS.values(), key=lambda key: key.section)]
        return toml.dumps({name: self.section(name) for name in sections})

    def with_changes(self, changes: Values, run: object) -> "Config":
        """The same run with what may change when it is resumed.

        Args:
            changes: What was set anew.
            run: Its folder, for the error.

        Raises:
            UsageError: something else changes.
        """
        changed = resolved({**self.values, **changes})
        for path, value in changes.items():
            if KEYS[path].later(self.values) or changed.get(path) == self.get(path):
                continue
            was = "not set" if self.get(path) is None else f"{self.get(path)}"
            raise UsageError(
                f"{KEYS[path].option} {value} would change the run in {run}, where it is {was}; "
                "leave it out, or begin another run with --output"
            )
        return changed


def resolved(values: Values) -> Config:
    """What was set, with defaults for the rest.

    Raises:
        UsageError: a value is of the wrong kind or out of range, or has no meaning with the
            others.
    """
    checked = {path: _checked(KEYS[path], value) for path, value in values.items()}
    complete = {}
    for path, key in KEYS.items():
        value = _lookup(checked, key)
        if value is not None and value != {}:
            complete[path] = value
    _check_together(checked, complete)
    if complete.get("program.blockwise") or complete.get("program.cuts"):
        # the number of modules follows
        complete.pop("program.modules")
    return Config(complete)


def read(path: Path) -> dict[str, Any]:
    """What a configuration file sets.

    Raises:
        UsageError: it cannot be read, or has a key that does not exist.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} is no TOML: {error}") from error
    values = {}
    for section, table in tables.items():
        if not isinstance(table, dict):
            raise UsageError(f"{path}: {section} stands outside of a section such as [model]")
        for name, value in table.items():
            found = f"{section}.{name}"
            if found not in KEYS:
                raise UsageError(f"{path}: {unknown(found)}")
            values[found] = value
    return values


def read_run(run: Path) -> Config:
    """The configuration that is saved with a run.

    Raises:
        UsageError: the folder holds no run.
    """
    path = run / CONFIG
    if not path.is_file():
        raise UsageError(f"{run} holds no run of fxtransport train: it has no {CONFIG}")
    return resolved(read(path))


def parse_assignments(texts: Iterable[str]) -> dict[str, Any]:
    """What ``--set section.key=value`` sets; a part of a table is set by one more name.

    >>> parse_assignments(["optimizer.lr=0.1", "data.mixup.mixup_alpha=0.2"])
    {'optimizer.lr': 0.1, 'data.mixup': {'mixup_alpha': 0.2}}

    Raises:
        UsageError: there is no such key, or no value.
    """
    values: dict[str, Any] = {}
    for text in texts:
        path, value = parse_pair(text)
        table, _, name = path.rpartition(".")
        if path in KEYS:
            is_text = KEYS[path].kind is str and not isinstance(value, str)
            values[path] = text.partition("=")[2] if is_text else value
        elif table in KEYS and KEYS[table].kind is dict:
            values.setdefault(table, {})[name] = value
        else:
            raise UsageError(unknown(path))
    return values


def parse_pair(text: str) -> tuple[str, Any]:
    """A name and its value, which is one of TOML, or else a text.

    >>> parse_pair("scale=[0.8, 1.0]"), parse_pair("interpolation=bicubic")
    (('scale', [0.8, 1.0]), ('interpolation', 'bicubic'))

    Raises:
        UsageError: there is no ``=``.
    """
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"write KEY=VALUE, not {text!r}")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value


def unknown(path: str) -> str:
    """That there is no such key, and which are close."""
    last = path.rpartition(".")[2]
    same = [known for known in KEYS if known.rpartition(".")[2] == last]
    close = same or difflib.get_close_matches(path, KEYS, n=3)
    hint = f"did you mean {', '.join(close)}?" if close else f"there are {', '.join(KEYS)}"
    return f"there is no key {path!r}: {hint}"


def _lookup(values: Values, key: Key) -> Any:
    """A key's value; None where it has none, or no meaning."""
    if key.path in values:
        return values[key.path]
    default = key.default
    while isinstance(default, By):
        default = default.values.get(_lookup(values, KEYS[default.path]))
    return list(default) if isinstance(default, tuple) else default


def _checked(key: Key, value: Any) -> Any:
    """A value of the key's kind."""
    if key.kind is float and type(value) is int:
        value = float(value)
    fits = type(value) is key.kind
    if key.kind is list:
        fits = fits and all(isinstance(item, str) for item in value)
    if not fits or (key.kind is float and not math.isfinite(value)):
        raise UsageError(f"{key.path} is {KINDS[key.kind]}, not {value!r}")
    for item in value if key.kind is list else [value]:
        if key.choices and item not in key.choices:
            raise UsageError(f"{key.path} is one of {', '.join(key.choices)}, not {item!r}")
    if key.least is not None and value < key.least:
        raise UsageError(f"{key.path} is at least {key.least}, not {value}")
    return value


def _check_together(given: Values, complete: Values) -> None:
    """See that what was given has a meaning beside the rest."""
    for path in given:
        default = KEYS[path].default
        if isinstance(default, By) and complete.get(default.path) not in default.values:
            other, value = KEYS[default.path], complete.get(default.path)
            state = f"is {value}" if value is not None else "is not set"
            raise UsageError(
                f"{KEYS[path].option} has no meaning where {other.path} {state}: it goes with "
                f"{', '.join(map(str, default.values))}"
            )
    several = complete["program.blockwise"] or complete.get("program.cuts")
    method, schedule = complete["objective.method"], complete["schedule.name"]
    if method == "e2e" and schedule != "end-to-end":
        raise UsageError(f"--method e2e trains end to end; for --schedule {schedule} take vangl")
    if schedule == "end-to-end" and (several or complete["program.modules"] > 1):
        raise UsageError(
            "end-to-end training has no modules: leave them out, or choose --schedule parallel, "
            "sequential or multi-lap"
        )
    if several and "program.modules" in given:
        raise UsageError("the number of modules follows from --blockwise or --cut: leave it out")
    if complete["program.blockwise"] and complete.get("program.cuts"):
        raise UsageError("--blockwise and --cut exclude one another")
