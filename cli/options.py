"""Options that are made from keys, and a help that shows the basic ones first."""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from fxtransport.errors import UsageError
from fxtransport.runs.config import parse_pair
from fxtransport.runs.keys import DefaultBy, Entry, Key

Command = TypeVar("Command", bound=Callable[..., Any])

TITLES = {
    "model": "Model",
    "program": "Parts",
    "data": "Data",
    "objective": "Objective",
    "transfer": "Teacher",
    "schedule": "Schedule",
    "optimizer": "Optimizer",
    "trainer": "Run",
}
"""The title of each section of the configuration in the help."""
METAVARS = {int: "N", float: "X", str: "TEXT", dict: "KEY=VALUE", tuple: "X,…"}
REPLACED = {
    "--doubled": "--tau",
    "--drift": "--update-frozen-bn",
    "--every": "--update-every",
    "--fixed-weight": "--lambda0",
    "--no-doubled": "--tau",
    "--train-images": "--train-samples",
    "--weight": "--balance",
}
"""Options of earlier versions, and what replaces them."""

_TYPES: dict[type, click.ParamType[Any]] = {int: click.INT, float: click.FLOAT, str: click.STRING}
_EVERYTHING = f"{__name__}.everything"


class KeyOption(click.Option):
    """An option that sets a key.

    Args:
        sets: The key.
        meant: The value that it stands for, if it takes none.
        entry: The entry of the key's table that it sets, if it is for one.
    """

    def __init__(
        self,
        *args: Any,
        sets: Key,
        meant: str | None = None,
        entry: Entry | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.sets = sets
        self.meant = meant
        self.entry = entry


class KeyCommand(click.Command):
    """A command with options that set keys; it knows options that were replaced."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse arguments; an option that was replaced is refused with the one to use."""
        try:
            return super().parse_args(ctx, self._complete(args))
        except click.NoSuchOption as error:
            if error.option_name not in REPLACED:
                raise
            message = (
                f"the option {error.option_name} has been replaced: "
                f"use {REPLACED[error.option_name]}"
            )
            raise click.NoSuchOption(error.option_name, message, ctx=ctx) from error

    def _complete(self, args: list[str]) -> list[str]:
        """The arguments, with a value for each option that may stand alone and does."""
        bare = {
            flag: option.sets
            for option in self.params
            if isinstance(option, KeyOption) and option.sets.bare is not None
            for flag in option.opts
        }
        found = []
        for arg, following in itertools.zip_longest(args, args[1:]):
            key = bare.get(arg)
            alone = key is not None and following not in key.choices
            found.append(f"{arg}={key.bare}" if alone and key is not None else arg)
        return found


class GroupedCommand(KeyCommand):
    """A command whose help has a group for each section of the configuration.

    It shows the basic options; ``--help-all`` shows all.
    """

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those that set no key first."""
        everything = bool(ctx.meta.get(_EVERYTHING))
        groups: dict[str, list[tuple[str, str]]] = {
            title: [] for title in ("Options", *TITLES.values())
        }
        hidden = 0
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx) if isinstance(option, click.Option) else None
            if record is None:
                continue
            key = option.sets if isinstance(option, KeyOption) else None
            if key is None or key.basic or everything:
                groups["Options" if key is None else TITLES[key.section]].append(record)
            else:
                hidden += 1
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
        if hidden:
            formatter.write_paragraph()
            formatter.write_text(f"{ctx.command_path} --help-all shows {hidden} more options.")


def help_all_option(command: Command) -> Command:
    """``--help-all``, which shows what a :class:`GroupedCommand` leaves out of its help."""

    def show(context: click.Context, _: click.Parameter, asked: bool) -> None:
        if asked:
            context.meta[_EVERYTHING] = True
            click.echo(context.get_help())
            context.exit()

    return click.option(
        "--help-all",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Show all options.",
    )(command)


def key_options(keys: Iterable[Key]) -> Callable[[Command], Command]:
    """Options for keys, as a decorator of a command."""

    def decorate(command: Command) -> Command:
        for key in reversed([*keys]):
            for option in reversed([*_options(key)]):
                command = option(command)
        return command

    return decorate


def option_values(command: click.Command, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What options set, by the paths of keys.

    Args:
        command: The command that has the options.
        arguments: What it was called with.

    Raises:
        UsageError: two options set the same key to different values.
    """
    values: dict[str, Any] = {}
    names: dict[tuple[str, str], str] = {}
    for option, value in _given(command, arguments):
        path, meant = option.sets.path, _value(option, value)
        name = option.opts[0] if option.meant is not None else f"{option.opts[0]} {_text(value)}"
        is_table = _is_table(option.sets)
        table = values.setdefault(path, {}) if is_table else values
        for entry, content in meant.items() if is_table else [(path, meant)]:
            if table.setdefault(entry, content) != content:
                raise UsageError(
                    f"{names[path, entry]} and {name} contradict one another; give one of them"
                )
            names[path, entry] = name
    return values


def implied_values(command: click.Command, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What options imply for keys that nothing sets, by the paths of keys.

    Args:
        command: The command that has the options.
        arguments: What it was called with.
    """
    given = [option for option, _ in _given(command, arguments) if option.entry is not None]
    return {o.sets.path: dict(o.entry.beside) for o in given if o.entry and o.entry.beside}


def _given(command: click.Command, arguments: Mapping[str, Any]) -> Iterator[tuple[KeyOption, Any]]:
    """The options of keys that have a value, with it."""
    for option in command.params:
        value = arguments.get(str(option.name)) if isinstance(option, KeyOption) else None
        if isinstance(option, KeyOption) and value is not None and value != ():
            yield option, value


def _text(value: Any) -> str:
    """What was given to an option, as it was written."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


@contextmanager
def name_set_options(keys: Mapping[str, Key], values: Iterable[str]) -> Iterator[None]:
    """Let errors name the options that were given, where they name the keys that these set.

    Args:
        keys: All keys by path.
        values: The paths of the keys that options set.
    """
    options = {path: keys[path].option for path in values}
    try:
        yield
    except UsageError as error:
        if not options:
            raise
        paths = re.compile("|".join(rf"\b{re.escape(path)}\b" for path in options))
        text = paths.sub(lambda match: options[match[0]], str(error))
        if text == str(error):
            raise
        raise type(error)(text) from error


def _options(key: Key) -> Iterable[Callable[[Command], Command]]:
    if key.flag:
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
            multiple=key.kind is list or _is_table(key),
            help=f"{key.help}{_default_text(key)}",
            **shape,
        )
    for flag, entry in key.entries.items():
        yield click.option(
            flag,
            f"{key.parameter}__{entry.name}",
            cls=KeyOption,
            sets=key,
            entry=entry,
            type=_TYPES[entry.kind],
            metavar=METAVARS[entry.kind],
            default=None,
            help=entry.help,
        )
    for flag, (meant, text) in key.short_forms.items():
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


def _is_table(key: Key) -> bool:
    """Whether its option sets one entry; a table that its key reads is one text."""
    return key.kind is dict and key.read is None


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
    if option.entry is not None:
        return {option.entry.name: value}
    if _is_table(option.sets):
        return dict(_parse_entry(option.sets, text) for text in value)
    return list(value) if option.sets.kind is list else value


def _parse_entry(key: Key, text: str) -> tuple[str, Any]:
    """An entry of a table: its name and its value, or, of some keys, a number alone."""
    if key.number is not None and "=" not in text:
        try:
            return key.number, float(text)
        except ValueError as error:
            raise UsageError(f"write a number or KEY=VALUE, not {text!r}") from error
    return parse_pair(text)


def _default_text(key: Key) -> str:
    default = key.default
    if default is None or default is False:
        return ""
    if isinstance(default, DefaultBy) and all(value is None for value in default.values.values()):
        return f"  [for {', '.join(map(str, default.values))}]"
    return f"  [default: {_describe(default, ',' if key.kind is tuple else ' ')}]"


def _describe(default: Any, separator: str) -> str:
    """A default in words: ``0.1 (trgl, vangl), 0 (lap, e2e)``."""
    if isinstance(default, DefaultBy):
        meant: dict[str, list[str]] = {}
        for name, value in default.values.items():
            if name is False:
                return _describe(value, separator)
            meant.setdefault(_describe(value, separator), []).append(name)
        return ", ".join(f"{text} ({', '.join(names)})" for text, names in meant.items())
    if isinstance(default, tuple):
        return separator.join(_describe(item, separator) for item in default)
    if isinstance(default, bool):
        return "yes" if default else "no"
    return f"{default:g}" if isinstance(default, float) else str(default)
