"""Write TOML; the standard library only reads it."""

import json
from collections.abc import Mapping
from typing import Any


def dumps(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of a file of tables, which ``tomllib.loads`` reads as the same tables.

    Args:
        tables: Their values are texts, numbers, booleans, and lists and tables of these; None is
            left out.

    >>> print(dumps({"optimizer": {"lr": 0.1, "options": {"betas": [0.9, 0.99]}}}), end="")
    [optimizer]
    lr = 0.1
    options = { betas = [0.9, 0.99] }
    """
    return "\n".join(
        f"[{_key(name)}]\n" + "".join(f"{_key(k)} = {_value(v)}\n" for k, v in _items(table))
        for name, table in tables.items()
    )


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return _text(value)
        case Mapping():
            pairs = ", ".join(f"{_key(k)} = {_value(v)}" for k, v in _items(value))
            return f"{{ {pairs} }}" if pairs else "{}"
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
    raise TypeError(f"TOML cannot represent {value!r}")


def _items(table: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in table.items() if value is not None]


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("-", "_").isidentifier()
    return name if bare else _text(name)


def _text(text: str) -> str:
    # as in JSON, except that TOML forbids this character too
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
