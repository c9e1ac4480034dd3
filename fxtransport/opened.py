"""What must stay as it is of modules whose code is in a program's graph."""

import operator
from collections.abc import Container, Iterable, Mapping
from typing import Any, NamedTuple

from torch import nn

from fxtransport.errors import GuardError, UsageError
from fxtransport.hooks import hook_error, hook_of
from fxtransport.watched import PLAIN, Camera, Watched, changed, check_watched, live_value


class Opened(NamedTuple):
    """A module whose code is in the graph.

    Another one of its class may take its place, of no other. Attributes that the code depends on
    must keep their values, and hooks of it would not run.
    """

    path: str
    """Empty for the model itself."""
    around: nn.Module | None
    """The module that holds it; None for the model itself, which nothing can replace."""
    name: str
    module: nn.Module
    watched: tuple[Watched, ...] = ()
    runs_hooks: bool = False
    """Whether it is called, and only attributes of it were read."""
    forwards: tuple[Any, ...] = ()
    """The forward of its class, and its own, if any."""

    @property
    def is_current(self) -> bool:
        """Whether it is still where it was."""
        return self.around is None or self.around._modules.get(self.name) is self.module

    def check(self, camera: Camera) -> None:
        """See that it has no hooks, and that its attributes are what they were.

        Args:
            camera: Made for this check of all modules.

        Raises:
            GuardError: something changed.
        """
        kind = None if self.runs_hooks else hook_of(self.module)
        if kind is not None:
            raise GuardError(hook_error(self.path, self.module, kind))
        if not self.runs_hooks and any(map(operator.is_not, self.forwards, _forwards(self.module))):
            raise GuardError(
                f"{self.path or 'the model'} ({type(self.module).__name__}) has another forward "
                "than when the program was compiled; set it back, or compile again"
            )
        check_watched(self.watched, self.module, camera)

    def check_compiled(self) -> None:
        """The same, as far as a compiler can follow, which then guards compiled code by it.

        Raises:
            GuardError: something changed.
        """
        kind = None if self.runs_hooks else hook_of(self.module)
        if kind is not None:
            raise GuardError(hook_error(self.path, self.module, kind))
        for entry in self.watched:
            if type(entry.value) in PLAIN and not entry.module:
                live = live_value(entry, self.module)
                if type(live) is not type(entry.value) or live != entry.value:
                    raise GuardError(changed(entry, self.module, "", repr(entry.value), repr(live)))


def opened_modules(
    model: nn.Module,
    source: nn.Module,
    kinds: Mapping[str, type],
    watched: Iterable[Watched] = (),
    called: Container[str] = (),
) -> tuple[Opened, ...]:
    """The modules of which the graph holds the code, from the outermost inwards.

    Args:
        model: The model.
        source: Holds its submodules: the model, or a program.
        kinds: By path, from the outermost inwards, the class that each had when its code was
            taken.
        watched: The attributes that the code depends on.
        called: The paths of those whose code is not in the graph.

    Raises:
        UsageError: a module of another class has taken the place of one.
    """
    attributes: dict[str, list[Watched]] = {}
    for entry in watched:
        attributes.setdefault(entry.path, []).append(entry)
    own = tuple(attributes.pop("", ()))
    found = {"": Opened("", None, "", model, own, forwards=_forwards(model))}
    for path, kind in kinds.items():
        around, name = _around(source, path)
        module = around._modules.get(name)
        if module is None or type(module) is not kind:
            raise UsageError(
                f"{path} is now of class {type(module).__name__}, and its code as a "
                f"{kind.__name__} is in the program's graph; replace it on the model, and "
                "compile again"
            )
        own = tuple(attributes.get(path, ()))
        forwards = _forwards(module)
        found[path] = Opened(path, around, name, module, own, path in called, forwards)
    return tuple(found.values())


def _forwards(module: nn.Module) -> tuple[Any, Any]:
    return type(module).forward, module.__dict__.get("forward")


def _around(source: nn.Module, path: str) -> tuple[nn.Module, str]:
    """The module that holds a path, and the last name; modules in between were checked."""
    *around, name = path.split(".")
    for step in around:
        child = source._modules[step]
        assert child is not None, f"{step} of {path} is a module"
        source = child
    return source, name
