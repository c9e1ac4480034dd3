"""Modules that a part of a program holds in part.

A part owns whole modules, which are the program's own objects, and pieces of the modules around
them: of a ``layer`` that is cut in two, each part holds its blocks. A :class:`Shell` stands for
such a module. It holds the submodules, parameters and buffers that are the part's, and forwards
plain attributes to the module itself, so that they are read live.
"""

import copy
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from fxtransport.lowered import LoweredPart

REGISTRIES = ("_modules", "_parameters", "_buffers")
"""Where a module keeps what it holds, by name."""


class Shell(nn.Module):
    """Stands for a module, with only some of what the module holds.

    Args:
        origin: The module. Its plain attributes are read live, as the shell's own. It is kept
            in a tuple, so that it is not a submodule.
    """

    def __init__(self, origin: nn.Module) -> None:
        super().__init__()
        self.__dict__["_origin"] = (origin,)
        self.training = origin.training

    @property
    def origin(self) -> nn.Module:
        """The module that this one stands for."""
        found: nn.Module = self.__dict__["_origin"][0]
        return found

    def __getattr__(self, name: str) -> Any:
        for registry in REGISTRIES:
            held = self.__dict__.get(registry, {})
            if name in held:
                return held[name]
        origin = self.__dict__["_origin"][0]
        if any(name in origin.__dict__[registry] for registry in REGISTRIES):
            raise AttributeError(f"{type(origin).__name__}.{name} belongs to another part")
        return getattr(origin, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set what is the module's own on the module, so that everything around sees it."""
        if name == "training" or name in self.__dict__ or hasattr(nn.Module, name):
            super().__setattr__(name, value)
            return
        origin = self.origin
        pairs = [(self.__dict__[each], origin.__dict__[each]) for each in REGISTRIES]
        for held, source in pairs:
            if name in held and held[name] is not source.get(name):
                # functional_call put it here, and takes it away again
                held[name] = value
                return
        setattr(origin, name, value)
        for held, source in pairs:
            if name in held:
                held[name] = source[name]


class Root(Shell):
    """The shell of a model, for a program or a part that holds the same as it does.

    The three registries are the holder's own, so what is set on one shows on the other, and so
    does ``training``.

    Args:
        origin: The model.
        holder: The program or part.
    """

    def __init__(self, origin: nn.Module, holder: nn.Module) -> None:
        super().__init__(origin)
        self.__dict__["_holder"] = (holder,)
        for registry in REGISTRIES:
            self.__dict__[registry] = holder.__dict__[registry]

    @property
    def training(self) -> bool:
        """The holder's flag."""
        flag: bool = self.__dict__["_holder"][0].training
        return flag

    @training.setter
    def training(self, mode: bool) -> None:
        if "_holder" in self.__dict__:
            self.__dict__["_holder"][0].training = mode


@dataclass(slots=True)
class Mount:
    """One thing that a part holds, and where it comes from."""

    shell: nn.Module
    """The shell, or the part, that holds it."""
    origin: nn.Module
    """The module that it is taken from."""
    registry: str
    name: str
    held: Any
    """What the origin held when it was taken."""

    @property
    def is_current(self) -> bool:
        """Whether the origin still holds the same object."""
        return getattr(self.origin, self.registry).get(self.name) is self.held

    def take(self) -> None:
        """Hold what the origin holds now, or nothing if it holds nothing."""
        source, held = getattr(self.origin, self.registry), getattr(self.shell, self.registry)
        self.held = source.get(self.name)
        if self.name in source:
            held[self.name] = self.held
        else:
            held.pop(self.name, None)


def mount(part: nn.Module, source: nn.Module, lowered: LoweredPart) -> tuple[Mount, ...]:
    """Let a part hold what its function needs, in shells of what is around it.

    Args:
        part: Its registries are filled.
        source: Holds the model's submodules, parameters and buffers: a program, or the model.
        lowered: Says what to hold.
    """
    found = []
    for path in lowered.owned:
        around, _, name = path.rpartition(".")
        holder, origin = _shell_at(part, source, around)
        for registry in REGISTRIES:
            if name in getattr(origin, registry):
                held = getattr(origin, registry)[name]
                getattr(holder, registry)[name] = held
                found.append(Mount(holder, origin, registry, name, held))
    for path in lowered.entered:
        # of some, only a flag or a plain attribute is read
        _shell_at(part, source, path)
    return tuple(found)


def _shell_at(part: nn.Module, source: nn.Module, path: str) -> tuple[nn.Module, nn.Module]:
    """What a part holds at a path, a shell if it was not there, and the module itself."""
    holder, origin = part, source
    for name in filter(None, path.split(".")):
        child = origin._modules[name]
        assert child is not None, f"{name} of {path} is a module"
        # not by add_module, which refuses a name that is an attribute of parts
        inner = holder._modules.get(name)
        if inner is None:
            inner = holder._modules[name] = Shell(child)
        holder, origin = inner, child
    return holder, origin


def shells_in(part: nn.Module) -> Iterator[Shell]:
    """The shells that a part holds, from the outermost inwards."""
    for child in part._modules.values():
        if isinstance(child, Shell):
            yield child
            yield from shells_in(child)


def detach(holder: nn.Module, origin: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """A copy of a module in which all is empty that a shell of it does not hold.

    Args:
        holder: The shell, or the part.
        origin: The module that it stands for.
        memo: Of :func:`copy.deepcopy`, from :func:`placeholders`.
    """
    copied = object.__new__(type(origin))
    memo[id(origin)] = copied
    plain = {name: value for name, value in vars(origin).items() if name not in REGISTRIES}
    for registry in REGISTRIES:
        kept = getattr(holder, registry)
        copied.__dict__[registry] = {
            name: _detached(kept.get(name, value), memo)
            for name, value in getattr(origin, registry).items()
            # its own train() may name submodules that are elsewhere, so they have placeholders
            if name in kept or registry == "_modules"
        }
    copied.__dict__.update(copy.deepcopy(plain, memo))
    copied.training = holder.training
    return copied


def _detached(value: Any, memo: dict[int, Any]) -> Any:
    return (
        detach(value, value.origin, memo)
        if isinstance(value, Shell)
        else copy.deepcopy(value, memo)
    )


def placeholder(module: nn.Module) -> nn.Module:
    """A module with the same submodules by name, all of them empty."""
    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    made: nn.Module = type(module)() if type(module) in containers else nn.Module()
    for name, child in module._modules.items():
        made._modules[name] = None if child is None else placeholder(child)
    return made


def placeholders(model: nn.Module, kept: Container[nn.Module]) -> dict[int, Any]:
    """A memo of :func:`copy.deepcopy` in which the modules that are not kept are empty."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        if module not in kept:
            memo[id(module)] = placeholder(module)
    return memo
