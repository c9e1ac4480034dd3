"""Global variables that traced code reads: a program refuses to run once they have changed."""

from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

from fxtransport.tracing.caches import is_library
from fxtransport.tracing.error_context import is_own
from fxtransport.watched import PLAIN, Watched, snapshot

_SMALL = 100


class GlobalVariables:
    """The plain global variables that are named in the code that ran."""

    def __init__(self) -> None:
        self.watched: dict[tuple[str, str, str], Watched] = {}
        self._seen: set[CodeType] = set()

    def note(self, frame: FrameType | None, outermost: CodeType, path: str) -> None:
        """The variables of the functions that run now, and of those that they may call.

        Args:
            frame: The innermost frame.
            outermost: The code of the frame at which to stop.
            path: The path of the module whose code runs.
        """
        while frame is not None and frame.f_code is not outermost:
            if frame.f_code not in self._seen and is_own(frame):
                self._note_names(frame.f_code, frame.f_globals, path)
            self._seen.add(frame.f_code)
            frame = frame.f_back

    def _note_names(self, code: CodeType, variables: dict[str, Any], path: str) -> None:
        """The variables that a function names, and those that functions named there name."""
        self._seen.add(code)
        module = variables.get("__name__", "")
        for name in code.co_names:
            if name not in variables:
                continue
            value = variables[name]
            if isinstance(value, FunctionType) and value.__module__ == module:
                if value.__code__ not in self._seen:
                    self._note_names(value.__code__, value.__globals__, path)
            elif isinstance(value, ModuleType) and not is_library(value.__name__):
                for inner in code.co_names:
                    if inner in vars(value):
                        self._watch(path, value.__name__, inner, vars(value)[inner])
            else:
                self._watch(path, module, name, value)

    def _watch(self, path: str, module: str, name: str, value: Any) -> None:
        if _is_plain(value):
            entry = Watched(path, name, snapshot(value), module)
            self.watched.setdefault(("global", module, name), entry)


def _is_plain(value: Any) -> bool:
    """Whether a value is a number, a text or a flag, or a small container of these."""
    if isinstance(value, dict):
        return len(value) < _SMALL and all(type(v) in PLAIN for v in value.values())
    if isinstance(value, tuple | list | set | frozenset):
        return len(value) < _SMALL and all(type(v) in PLAIN for v in value)
    return type(value) in PLAIN and value is not None
