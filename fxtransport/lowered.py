"""What a compiled model is: generated functions, and what each needs of the model."""

import hashlib
import linecache
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple, Self

from fxtransport.casts import keep_casts, with_own_casts
from fxtransport.module_settings import plain_globals
from fxtransport.watched import Watched


class _Module(NamedTuple):
    """Stands for an imported module among the globals of a function that is pickled."""

    name: str


@dataclass(frozen=True)
class Function:
    """A generated function. Its first argument is a module with the model's submodules."""

    call: Callable[..., Any] = field(repr=False, compare=False)
    source: str
    inputs: tuple[str, ...]
    """The names of its arguments, without the module."""
    name: str = ""
    """What tracebacks call it."""
    globals: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """What its code refers to by name."""

    @classmethod
    def compile(
        cls, name: str, source: str, inputs: tuple[str, ...], globals: Mapping[str, Any]
    ) -> Self:
        """The function that Python code defines as ``forward``."""
        filename = f"<fxtransport {name}>"
        lines = source.splitlines(keepends=True)
        # tracebacks and torch.compile look up source lines here
        linecache.cache[filename] = (len(source), None, lines, filename)
        namespace = dict(globals)
        exec(compile(source, filename, "exec"), namespace)
        call = namespace["forward"]
        if any(value is keep_casts for value in globals.values()):
            call = with_own_casts(call)
        return cls(call, source, inputs, name, globals)

    @property
    def listing(self) -> str:
        """The source, and that of the regions that it calls."""
        called = ((value, getattr(value, "function", None)) for value in self.globals.values())
        regions = [
            f"\n# {region.__name__}, computed again in the backward pass\n{inner.listing}"
            for region, inner in called
            if isinstance(inner, Function)
        ]
        return self.source + "".join(regions)

    def __deepcopy__(self, memo: object) -> "Function":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        named = {
            name: _Module(value.__name__) if isinstance(value, ModuleType) else value
            for name, value in self.globals.items()
        }
        return _unpickled, (self.name, self.source, self.inputs, named)


def _unpickled(name: str, source: str, inputs: tuple[str, ...], named: dict[str, Any]) -> Function:
    found = {
        key: import_module(value.name) if isinstance(value, _Module) else value
        for key, value in named.items()
    }
    return Function.compile(name, source, inputs, found)


class Deferred:
    """A function that few programs run: it is generated when it is first asked for.

    Args:
        make: Generates it.
    """

    def __init__(self, make: Callable[[], Function]) -> None:
        self._make = make

    @cached_property
    def function(self) -> Function:
        """The function."""
        return self._make()

    def __deepcopy__(self, memo: object) -> "Deferred":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _generated, (self.function,)


def _generated(function: Function) -> Deferred:
    return Deferred(lambda: function)


@dataclass(frozen=True)
class LoweredPart:
    """One part of a program."""

    function: Function
    """Takes a measure last. Returns what leaves, a tuple (of the last part, what the model
    returns), and what was measured of each block inside, a list: None where the measure says
    so, or where there is none."""
    owned: tuple[str, ...]
    """The paths of the submodules, parameters and buffers that it uses; of a submodule that
    it alone uses, only the outermost path."""
    opened: tuple[str, ...]
    """The paths of the modules whose code is in the function, from the outermost inwards."""
    watched: tuple[Watched, ...] = ()
    """The attributes of modules that the function depends on."""
    called: frozenset[str] = frozenset()
    """Of the paths, those of modules that are called, and of which only attributes were read."""
    checkpointing: Deferred | None = field(default=None, compare=False)
    """The same function, which computes its first residual blocks again in the backward pass. It
    takes how many, last. None where it has no block that can be."""
    checkpointable: int = field(default=0, compare=False)
    """How many residual blocks that function can compute again."""

    @property
    def entered(self) -> tuple[str, ...]:
        """The paths of the opened modules, and of those whose attributes were read."""
        found = set(self.opened)
        for entry in self.watched:
            names = entry.path.split(".") if entry.path else []
            found |= {".".join(names[: depth + 1]) for depth in range(len(names))}
        return tuple(sorted(found))


@dataclass(frozen=True)
class Lowered:
    """The functions that a program runs."""

    forward: Function
    """Returns what the model returns. It measures nothing."""
    parts: tuple[LoweredPart, ...]
    whole: LoweredPart
    """The model as one part, which returns what the model returns."""
    settings: str = ""
    """A hash of the settings of the modules that are called, when the program was compiled."""

    @property
    def hash(self) -> str:
        """A hash of what a program computes and where it is cut."""
        functions = [part.function for part in (self.whole, *self.parts)]
        named = [repr(plain_globals(function.globals)) for function in functions]
        text = [*(function.listing for function in functions), *named, self.settings]
        return hashlib.sha256("\0".join(text).encode()).hexdigest()

    def text(self) -> str:
        """The generated Python, to read."""
        named = [("whole", self.whole), *((f"part {k}", p) for k, p in enumerate(self.parts))]
        header = '"""What the program runs. For reading: this file is never executed."""\n'
        return header + "".join(
            f"\n# {name}\n{part.function.listing.strip()}\n" for name, part in named
        )
