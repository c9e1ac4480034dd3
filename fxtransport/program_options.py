"""The options of programs, as keywords in Python.

They are declared once, as fields of passes; see ``passes/base.py``. Here they become the
keywords of ``transportify``, with their defaults and their documentation.
"""

from __future__ import annotations

import difflib
import inspect
import operator
import textwrap
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any

from fxtransport.errors import UsageError
from fxtransport.passes.base import Pass
from fxtransport.passes.pipeline import (
    CONFIGURABLE,
    ProgramSetting,
    pass_class,
    program_settings,
)

_INSTEAD = {"weight": "balance"}
"""Options of earlier versions, and what took their place."""


def configure_passes(options: Mapping[str, Any]) -> tuple[Pass, ...]:
    """The passes that have options, each with those that it declares.

    Raises:
        UsageError: there is no such option, or it cannot have that value.
    """
    settings = program_settings()
    by_pass: dict[str, dict[str, Any]] = {name: {} for name in CONFIGURABLE}
    for name, value in options.items():
        if name not in settings:
            raise UsageError(_unknown(name, settings))
        setting = settings[name]
        by_pass[setting.pass_name][name] = option_value(setting, value)
    passes = [pass_class(name)(**given) for name, given in by_pass.items()]
    needed = {fact for step in passes for fact in step.needed}
    return tuple(s for s in passes if not s.on_demand or needed.intersection(s.provides))


def option_value(setting: ProgramSetting, value: Any) -> Any:
    """The value of an option, where users may also give a member of an enum by name.

    Raises:
        UsageError: the option cannot have this value.
    """
    if not setting.several:
        return _single_value(setting, value)
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise UsageError(f"{setting.name} is a sequence, such as [{value!r}], not {value!r}")
    return tuple(_single_value(setting, item) for item in value)


def _single_value(setting: ProgramSetting, value: Any) -> Any:
    shown = str(value) if isinstance(value, Enum) else value
    if setting.choices:
        if value not in setting.choices:
            choices = ", ".join(setting.choices)
            raise UsageError(f"{setting.name} is one of {choices}, not {shown!r}")
        return setting.kind(value)
    if value is None and setting.default is None:
        return None
    if setting.kind is int and hasattr(value, "__index__"):
        return operator.index(value)
    if setting.kind is float and type(value) is int:
        return float(value)
    if not isinstance(value, setting.kind):
        raise UsageError(f"{setting.name} takes {setting.kind.__name__}, not {value!r}")
    return value


def _unknown(name: str, settings: Mapping[str, ProgramSetting]) -> str:
    instead = _INSTEAD.get(name)
    if instead is not None:
        choices = ", ".join(repr(choice) for choice in settings[instead].choices)
        return f"there is no option {name!r}; use {instead}, which is one of {choices}"
    close = difflib.get_close_matches(name, settings, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(settings)}"
    return f"there is no option {name!r}; {hint}"


def document_options(function: Callable[..., Any]) -> None:
    """Show the options of programs in a function's signature and docstring.

    The function takes them as ``**options``.
    """
    settings = program_settings()
    signature = inspect.signature(function)
    parameters = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    parameters += map(_parameter, settings.values())
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    listed = "\n".join(f"    {s.name}: {_sentence(s)}" for s in settings.values())
    # Python 3.13 strips the indentation of docstrings, and earlier versions keep it
    text = inspect.cleandoc(function.__doc__ or "")
    assert "    options: See below." in text
    function.__doc__ = text.replace("    options: See below.", listed)


def _parameter(setting: ProgramSetting) -> inspect.Parameter:
    return inspect.Parameter(
        setting.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=_default(setting),
        annotation=_annotation(setting),
    )


def _default(setting: ProgramSetting) -> Any:
    """The default, with the names of an enum's members, which users may give, too."""
    if not setting.choices:
        return setting.default
    return tuple(map(str, setting.default)) if setting.several else str(setting.default)


def _annotation(setting: ProgramSetting) -> Any:
    kind = setting.kind | str if setting.choices else setting.kind
    if setting.several:
        return Sequence[kind]  # type: ignore[valid-type]
    return kind | None if setting.default is None else kind


def _sentence(setting: ProgramSetting) -> str:
    """What an option does, and what it may be, in lines as wide as a docstring's."""
    choices = ", ".join(f"``{choice}``" for choice in setting.choices)
    values = f"{'Of' if setting.several else 'One of'} {choices}." if choices else ""
    return textwrap.fill(f"{setting.how.help} {values}".strip(), 80, subsequent_indent=" " * 8)
