"""What traced code reads and writes on modules.

Tensors are read by the user's names. Numbers are read again at run time. What else is read, such
as a flag or a name, decides how the code runs: it is noted, and a program refuses to run once it
has changed. What is written is written at run time, too.
"""

from collections.abc import Container, Iterator
from contextlib import ExitStack, contextmanager
from io import IOBase
from typing import Any
from unittest import mock

import torch
from torch import fx, nn

from fxtransport.errors import TraceError
from fxtransport.runtime import ITSELF, assign
from fxtransport.tracing.caches import Uncached
from fxtransport.tracing.draws import GENERATORS
from fxtransport.tracing.error_context import describe_module
from fxtransport.tracing.identities import Step, holding_attributes, tensors_with_steps
from fxtransport.tracing.interface import Tracer
from fxtransport.tracing.repetition import unsteady
from fxtransport.tracing.value_proxy import is_proxy, proxy_of
from fxtransport.watched import MISSING, NUMBER, TENSOR, Watched, snapshot

_INTERNAL = frozenset(vars(nn.Module())) | frozenset(dir(nn.Module))
"""What torch's own code reads on modules."""
_UNSEEN = _INTERNAL - {"training"}


class Attributes:
    """The attributes of a shadow's modules, as traced code sees them.

    Args:
        tracer: The tracer.
        root: The shadow.
        flag: Makes the node of a module's ``training`` flag.
    """

    def __init__(self, tracer: Tracer, root: nn.Module, flag: Any) -> None:
        self._tracer = tracer
        self._root = root
        self._flag = flag
        self.paths = {module: path for path, module in root.named_modules()}
        self.watched: dict[tuple[str, str], Watched] = {}
        self.written: set[str] = set()
        self._nodes: dict[str, fx.Node] = {}
        self._read_before: dict[str, fx.Node] = {}
        self._written_last: dict[str, fx.Node] = {}
        self._objects: dict[int, str] = {}
        self._kept: list[Any] = []
        self._tensors = _tensor_places(root)
        self._containers = {
            m: _fingerprints(m) for m, path in self.paths.items() if path in tracer.opened
        }

    def node_of(self, value: Any) -> fx.Node | None:
        """The node that reads an attribute whose value is this object."""
        if isinstance(value, nn.Module):
            path = self.paths.get(value)
            return None if path is None else self.module(path)
        if isinstance(value, torch.Tensor):
            place = self._tensors.get(id(value))
            if place is None:
                return None
            target, steps = place
            node = self.read_node(target)
            for function, key in steps:
                node = self._tracer.create_node("call_function", function, (node, key), {})
            return node
        target = self._objects.get(id(value), "")
        return self.read_node(target) if target else None

    def read_node(self, target: str) -> fx.Node:
        """The node that reads an attribute."""
        if target not in self._nodes:
            self._nodes[target] = self._tracer.create_node("get_attr", target, (), {})
        return self._nodes[target]

    def holds_all(self, module: nn.Module) -> bool:
        """Whether all parameters and buffers of a module are the shadow's."""
        tensors = (*module.parameters(), *module.buffers())
        return all(id(tensor) in self._tensors for tensor in tensors)

    def module(self, path: str) -> fx.Node:
        """The node that is a module itself."""
        if path in self._tracer.opened:
            return self.read_node(f"{path}.{ITSELF}".lstrip("."))
        return self.read_node(path)

    @contextmanager
    def seen(self) -> Iterator[None]:
        """While active, what traced code reads and writes on modules is seen."""
        tracer = self._tracer
        read, find = nn.Module.__getattribute__, nn.Module.__getattr__
        write, remove = nn.Module.__setattr__, nn.Module.__delattr__

        def finding(module: nn.Module, name: str) -> Any:
            path = self.paths.get(module)
            if not self._tracer.evaluating and path is not None:
                self._watch_presence(path, name, _registered(module, name))
            return find(module, name)

        def reading(module: nn.Module, name: str) -> Any:
            value = read(module, name)
            if name in _UNSEEN or tracer.evaluating or name.startswith("__"):
                return value
            return self._read(module, name, value)

        def writing(module: nn.Module, name: str, value: Any) -> None:
            if not self._tracer.evaluating and module in self.paths:
                value = self._write(module, name, value)
            write(module, name, value)

        def removing(module: nn.Module, name: str) -> None:
            if not self._tracer.evaluating and module in self.paths:
                raise self._tracer.refuse(f"deletes self.{name}", "assign None instead")
            remove(module, name)

        with ExitStack() as stack:
            for name, hook in (
                ("__getattribute__", reading),
                ("__getattr__", finding),
                ("__setattr__", writing),
                ("__delattr__", removing),
            ):
                stack.enter_context(mock.patch.object(nn.Module, name, hook))
            yield

    def _read(self, module: nn.Module, name: str, value: Any) -> Any:
        kind = type(value)
        if name == "training":
            return self._read_flag(module, value)
        if name in _INTERNAL or is_proxy(value) or isinstance(value, torch.Tensor):
            return value
        path = self._path(module)
        if path is None:
            return value
        target = f"{path}.{name}".lstrip(".")
        if kind in (int, float):
            self._watch(path, name, NUMBER)
            return proxy_of(self.read_node(target), self._tracer)
        if callable(value) and not isinstance(value, nn.Module) and name not in vars(module):
            return value  # a method
        if isinstance(value, GENERATORS):
            raise self._tracer.refuse(
                f"draws from self.{name}, a {kind.__name__}, which a graph would freeze",
                "draw from torch (torch.rand)",
            )
        if isinstance(value, Iterator) and not isinstance(value, IOBase):
            raise self._tracer.refuse(
                f"reads self.{name}, a {kind.__name__}, which goes on from call to call",
                "make it in forward, or move this code to a module without a residual addition, "
                "which keeps its own code",
            )
        self._watch(path, name, value)
        if not isinstance(value, nn.Module | str | bool | None | tuple):
            self._objects.setdefault(id(value), target)
            self._kept.append(value)
        return value

    def flags_set(self, module: nn.Module) -> None:
        """Code has set the flags of a module and of those in it."""
        paths = (self.paths[m] for m in module.modules() if m in self.paths)
        self.written.update(f"{path}.training".lstrip(".") for path in paths)

    def _watch(self, path: str, name: str, value: Any) -> None:
        """A program refuses to run once this attribute has changed."""
        target = f"{path}.{name}".lstrip(".")
        if isinstance(value, Uncached):
            value = value.cached
        if target not in self.written and (path, name) not in self.watched:
            self.watched[path, name] = Watched(path, name, snapshot(value))

    def _watch_presence(self, path: str, name: str, value: Any) -> None:
        """Code may ask whether an attribute is there, and whether it is None."""
        if isinstance(value, torch.Tensor):
            self._watch(path, name, TENSOR)
        elif value is None or value is MISSING:
            self._watch(path, name, value)

    def _read_flag(self, module: nn.Module, value: bool) -> Any:
        path = self._path(module)
        if path is None or f"{path}.training".lstrip(".") in self.written:
            return value
        return proxy_of(self._flag(path, value), self._tracer)

    def _path(self, module: nn.Module) -> str | None:
        return self.paths.get(module)

    def _write(self, module: nn.Module, name: str, value: Any) -> Any:
        """Make a node that writes; what is returned is what the shadow gets."""
        path = self.paths[module]
        target = f"{path}.{name}".lstrip(".")
        if isinstance(value, nn.Module | nn.Parameter) or name in _INTERNAL - {"training"}:
            raise self._tracer.refuse(
                f"assigns self.{name}, a {type(value).__name__}", "make it in __init__"
            )
        before = vars(module).get("_buffers", {}).get(name)
        if before is not None:
            self.node_of(before)  # what was read before is read before
        holder = self.module(path)
        wrote = self._tracer.create_node("call_function", assign, (holder, name, value), {})
        if target in self._nodes and target not in self.written:
            self._read_before[target] = self._nodes[target]
        if type(vars(module).get(name)) in (int, float):
            self._nodes.pop(target, None)  # what is read from here on is another number
        self.written.add(target)
        self._written_last[target] = wrote
        return value

    def settle(self) -> None:
        """Let attributes that are written be read in their place, and not earlier or later."""
        graph, values = self._tracer.graph, self._tracer.values
        for node in list(graph.nodes):
            target = str(node.target)
            if node.op == "get_attr" and target in self.written:
                path, _, name = target.rpartition(".")
                with graph.inserting_before(node):
                    holder = graph.get_attr(f"{path}.{ITSELF}".lstrip("."))
                values[holder] = None
                node.op, node.target, node.args = "call_function", getattr, (holder, name)

    def refuse_changes(self, guarded: Container[fx.Node]) -> None:
        """Refuse code that changes what it decides by, or a list, dict or object.

        Args:
            guarded: The nodes by whose values code decides.

        Raises:
            TraceError: it does.
        """
        deciding = {
            f"{path}.{name}".lstrip(".")
            for (path, name), entry in self.watched.items()
            if entry.value is not NUMBER
            and entry.value is not TENSOR
            and not self._is_as_before(entry)
        }
        graph, values, read = self._tracer.graph, self._tracer.values, self._read_before
        asked = {target for target, node in read.items() if _is_guarded(node, guarded, values)}
        if asked:
            deciding |= unsteady(graph.nodes, values, read, self._written_last, asked)
        for target in sorted(self.written & deciding):
            raise self._refusal(target, "decides by", "and assigns it", "")
        for module, before in self._containers.items():
            now = _fingerprints(module)
            for name in sorted(before.keys() | now.keys()):
                target = f"{self.paths[module]}.{name}".lstrip(".")
                if target not in self.written and before.get(name) != now.get(name):
                    kind = f", a {type(vars(module).get(name)).__name__},"
                    raise self._refusal(target, "changes", "in forward", kind)

    def _is_as_before(self, entry: Watched) -> bool:
        """Whether an attribute has the value that it had before the forward."""
        held = vars(self._root.get_submodule(entry.path))
        now = held.get(entry.name, MISSING)
        now = now.example if is_proxy(now) else now
        return type(now) is type(entry.value) and bool(snapshot(now) == entry.value)

    def _refusal(self, target: str, does: str, then: str, kind: str) -> TraceError:
        path, _, name = target.rpartition(".")
        module = describe_module(self._root, path)
        return TraceError(
            f"{module} {does} self.{name}{kind} {then}, so that it runs otherwise from call to "
            "call; move this code to a module without a residual addition, which keeps its own "
            "code"
        )


def _is_guarded(node: fx.Node, guarded: Container[fx.Node], values: dict[fx.Node, Any]) -> bool:
    """Whether code decides by a number, or by one that is computed of it."""
    ahead, seen = [node], {node}
    while ahead:
        found = ahead.pop()
        if found in guarded:
            return True
        numbers = {n for n in found.users if isinstance(values.get(n), int | float)} - seen
        seen |= numbers
        ahead += numbers
    return False


def _registered(module: nn.Module, name: str) -> Any:
    """A parameter, a buffer or a submodule."""
    for registry in (module._parameters, module._buffers, module._modules):
        if name in registry:
            return registry[name]
    return MISSING


def _tensor_places(root: nn.Module) -> dict[int, tuple[str, tuple[Step, ...]]]:
    """For each tensor that a module holds, the attribute that it is in, and where in it."""
    places: dict[int, tuple[str, tuple[Step, ...]]] = {}
    for name, tensor in (*root.named_parameters(), *root.named_buffers()):
        places.setdefault(id(tensor), (name, ()))
    for path, module in root.named_modules():
        for name, value in holding_attributes(module):
            if name not in _INTERNAL:
                for steps, tensor in tensors_with_steps(value):
                    places.setdefault(id(tensor), (f"{path}.{name}".lstrip("."), steps))
    return places


def _fingerprints(module: nn.Module) -> dict[str, Any]:
    """The plain attributes of a module, and what lists, dicts and objects hold, by identity."""
    found: dict[str, Any] = {}
    for name, value in vars(module).items():
        if name in _INTERNAL:
            continue
        found[name] = id(value)
        if isinstance(value, nn.Module | torch.Tensor | type):
            continue
        if isinstance(value, list | set | frozenset):
            found[name] = tuple(map(id, value))
        elif isinstance(value, dict):
            found[name] = tuple((k, id(v)) for k, v in value.items())
        elif hasattr(value, "__dict__") and not callable(value):
            found[name] = tuple((k, id(v)) for k, v in vars(value).items())
    return found
