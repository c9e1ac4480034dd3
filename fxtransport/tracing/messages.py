"""Texts that code makes for people only: what stands in them decides nothing."""

import ast
import linecache
from functools import lru_cache
from types import FrameType

_WORDS = ("assert", "warn", "log", "print", "info", "debug", "error", "raise")


def is_message(frame: FrameType | None) -> bool:
    """Whether the statement that a frame runs checks or reports something, as assertions do."""
    if frame is None:
        return False
    return frame.f_lineno in _lines(frame.f_code.co_filename)


@lru_cache(maxsize=64)
def _lines(filename: str) -> frozenset[int]:
    """The lines of a file's statements that check or report something."""
    source = "".join(linecache.getlines(filename))
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return frozenset()
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert | ast.Raise | ast.Expr) and _reports(node):
            found.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return frozenset(found)


def _reports(node: ast.Assert | ast.Raise | ast.Expr) -> bool:
    if not isinstance(node, ast.Expr):
        return True
    if not isinstance(node.value, ast.Call):
        return False
    name = ast.unparse(node.value.func).rpartition(".")[2].lower()
    return any(word in name for word in _WORDS)
