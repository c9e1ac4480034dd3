"""The options of a command, made of the table of keys, and a help that groups them."""

from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any, TypeVar

import click

from fxtransport.errors import UsageError
from fxtransport.runs.config import KEYS, Values, parse_pair
from fxtransport.runs.keys import By, Key

Command = TypeVar("Command", bound=Callable[..., Any])

TITLES = {
    "model": "Model",
    "program": "Modules",
    "data": "Data",
    "objective": "Objective",
    "schedule": "Schedule",
    "optimizer": "Optimiser",
    "trainer": "Run",
}
"""What each section of the configuration is called in the help."""
METAVARS = {int: "N", float: "X", str: "TEXT", dict: "KEY=VALUE"}


class KeyOption(click.Option):
    """An option that sets a key.

    Args:
        sets: The key.
        meant: The value that it stands for, if it takes none.
    """

    def __init__(self, *args: Any, sets: Key, meant: str | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.sets = sets
        self.meant = meant


class GroupedCommand(click.Command):
    """A command whose help has a part for each section of the configuration."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those that set no key first."""

        def title(parameter: click.Parameter) -> str:
            if isinstance(parameter, KeyOption):
                return TITLES[parameter.sets.section]
            return "Options"

        options = [p for p in self.get_params(ctx) if isinstance(p, click.Option)]
        found = [(title(p), p.get_help_record(ctx)) for p in options]
        ordered = sorted(found, key=lambda pair: ["Options", *TITLES.values()].index(pair[0]))
        for name, group in groupby(ordered, key=lambda pair: pair[0]):
            with formatter.section(name):
                formatter.write_dl([record for _, record in group if record is not None])


def key_options(command: Command) -> Command:
    """An option for each key that has one."""
    for key in reversed(KEYS.values()):
        for option in reversed([*_options(key)]):
            command = option(command)
    return command


def given(command: click.Command, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What options set, by the paths of keys.

    Args:
        command: Whose options.
        arguments: What it was called with.

    Raises:
        UsageError: two options set the same key.
    """
    values: dict[str, Any] = {}
    for option in command.params:
        value = arguments.get(str(option.name)) if isinstance(option, KeyOption) else None
        if not isinstance(option, KeyOption) or value is None or value == ():
            continue
        if option.sets.path in values:
            raise UsageError(f"{option.sets.option.replace(' or ', ' and ')} exclude one another")
        values[option.sets.path] = _value(option, value)
    return values


def merged(*layers: Values) -> dict[str, Any]:
    """What several layers set, the later over the earlier; tables are merged."""
    total: dict[str, Any] = {}
    for layer in layers:
        for path, value in layer.items():
            before = total.get(path)
            tables = isinstance(before, dict) and isinstance(value, dict)
            total[path] = dict(before or {}, **value) if tables else value
    return total


def _options(key: Key) -> Iterable[Callable[[Command], Command]]:
    for flag, (meant, text) in key.alone.items():
        yield click.option(
            flag,
            f"{key.parameter}_{meant}",
            cls=KeyOption,
            sets=key,
            meant=meant,
            is_flag=True,
            default=None,
            help=text,
        )
    if not key.flag:
        return
    flags = [key.flag] if key.kind is bool else key.flag.split("/")
    shape: dict[str, Any] = {"is_flag": True} if key.kind is bool else {"type": _type(key)}
    if not key.choices and key.kind is not bool:
        shape["metavar"] = key.metavar or METAVARS[key.kind]
    yield click.option(
        *flags,
        key.parameter,
        cls=KeyOption,
        sets=key,
        default=None,
        multiple=key.kind in (list, dict),
        help=f"{key.help}{_default_text(key)}",
        **shape,
    )


def _type(key: Key) -> click.ParamType[Any]:
    if key.choices:
        return click.Choice(key.choices)
    if key.kind is int:
        return click.INT if key.least is None else click.IntRange(min=int(key.least))
    if key.kind is float:
        return click.FLOAT if key.least is None else click.FloatRange(min=key.least)
    return click.STRING


def _value(option: KeyOption, value: Any) -> Any:
    if option.meant is not None:
        return option.meant
    if option.sets.kind is dict:
        return dict(parse_pair(text) for text in value)
    return list(value) if option.sets.kind is list else value


def _default_text(key: Key) -> str:
    if key.default is None or key.default is False:
        return ""
    return f"  [default: {_described(key.default)}]"


def _described(default: Any) -> str:
    """A default in words: ``0.1 (trgl, vangl), 0 (lap, e2e)``."""
    if isinstance(default, By):
        meant: dict[str, list[str]] = {}
        for name, value in default.values.items():
            if name is False:
                return _described(value)
            meant.setdefault(_described(value), []).append(name)
        return ", ".join(f"{text} ({', '.join(names)})" for text, names in meant.items())
    if isinstance(default, tuple):
        return " ".join(default)
    if isinstance(default, bool):
        return "yes" if default else "no"
    return f"{default:g}" if isinstance(default, float) else str(default)
