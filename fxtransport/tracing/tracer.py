"""A tracer that runs the model's own code on meta tensors, and makes a node of each call.

Traced code is given real tensors on the meta device. A node is found by the identity of the
tensor that it computes, so nothing pretends to be a tensor. So shapes are known while tracing,
control flow on shapes follows the example (and is guarded), and what depends on data is refused,
with the line of the code. Only the modules that are named are opened; every other one is a node,
with its own code and its own mode.
"""

import operator
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import fx, nn

from fxtransport.errors import TraceError
from fxtransport.tracing.arguments import node_argument
from fxtransport.tracing.attributes import Attributes
from fxtransport.tracing.checkpoints import Regions
from fxtransport.tracing.constants import DataDependentError, readable
from fxtransport.tracing.contexts import Contexts
from fxtransport.tracing.devices import PretendDevice
from fxtransport.tracing.draws import Draws
from fxtransport.tracing.evaluation import evaluate
from fxtransport.tracing.free_functions import FreeFunction, record_calls
from fxtransport.tracing.global_variables import GlobalVariables
from fxtransport.tracing.guards import GuardingTracer
from fxtransport.tracing.identities import Identities, tensors_with_steps
from fxtransport.tracing.leaves import leaves_of
from fxtransport.tracing.modes import Modes
from fxtransport.tracing.packages import packages_of
from fxtransport.tracing.patches import patched
from fxtransport.tracing.pieces import Pieces
from fxtransport.tracing.recorder import Recorder
from fxtransport.tracing.sites import Site, node_name, site_of
from fxtransport.tracing.torch_calls import TorchCalls
from fxtransport.tracing.value_proxy import proxy_of
from fxtransport.watched import Watched


class ValueTracer(GuardingTracer):
    """Traces a shadow into one graph, opening only the modules at the given paths.

    After :meth:`trace`, ``values`` has the example value of every node, ``owners`` the path
    of the module whose code made it, ``sites`` the place in the code that did, ``results`` what
    each opened module returned last, ``deciding`` the functions outside of modules that decided
    on shapes, ``questions`` what was asked of gradients, and ``counts_pieces`` whether a number
    of pieces was looked at.

    Args:
        root: The shadow.
        opened: The paths of the modules whose code is traced.
        recorder: Records the operations that the nodes run.
        device: Where the model's parameters are, which code may ask.
        gradients: What traced code is told of whether gradients are computed.
    """

    def __init__(
        self,
        root: nn.Module,
        opened: frozenset[str],
        recorder: Recorder,
        device: torch.device,
        *,
        gradients: bool = True,
    ) -> None:
        super().__init__()
        self.root = root
        self.opened = opened
        self.recorder = recorder
        self.device = device
        self.graph = fx.Graph()
        self.values: dict[fx.Node, Any] = {}
        self.owners: dict[str, str] = {}
        self.results: dict[str, fx.Node] = {}
        self.sites: dict[fx.Node, Site] = {}
        self.current: fx.Node | None = None
        self.evaluating = False
        self.is_returning = False
        self.modes = Modes(self)
        self.contexts = Contexts()
        self.checkpoints = Regions()
        self.attributes = Attributes(self, root, self.modes.flag)
        opened_kinds = (type(root.get_submodule(path)) for path in opened)
        self.globals = GlobalVariables(packages_of(opened_kinds))
        self._known = Identities()
        self._draws = Draws(self)
        self.forced_gradients = False
        self.gradients = gradients
        self._failed = ""
        self._refusal: Exception | None = None

    def trace(
        self, run: Callable[["ValueTracer"], Any], whole: Sequence[FreeFunction] = ()
    ) -> fx.Graph:
        """The graph of the shadow's forward.

        Args:
            run: Makes placeholders, and calls the shadow with them.
            whole: Functions whose calls are nodes, too.

        Raises:
            TraceError: a graph cannot hold what the code does.
        """
        with ExitStack() as stack:
            stack.enter_context(PretendDevice(self.device, self.recorder.constants))
            stack.enter_context(self.recorder)
            stack.enter_context(self.attributes.seen())
            stack.enter_context(self.contexts.seen(self))
            stack.enter_context(self.checkpoints.seen(self))
            stack.enter_context(
                self.globals.seen(lambda: not self.evaluating, lambda: self.recorder.current_path)
            )
            stack.enter_context(patched(self))
            stack.enter_context(readable(self.recorder.constants, lambda: self.evaluating))
            stack.enter_context(record_calls(whole, self._call_whole))
            stack.enter_context(TorchCalls(self))
            stack.enter_context(self.recorder.calling("", ()))
            given = run(self)
            self._refuse_caught()
            returned = self.returned(given)
            self._draws.check()
            self.flush_guards()
            self.graph.output(returned)
            self.attributes.refuse_changes(self.guarded)
            self.globals.refuse_changes(self.root)
        self.attributes.settle()
        return self.graph

    def placeholder(self, name: str, value: Any) -> Any:
        """What traced code is given for an argument of the forward."""
        default = (None,) if value is None else ()
        node = self.graph.create_node("placeholder", name, default, {}, name)
        self._enter(node, "", value)
        if value is None:
            return proxy_of(node, self).pinned()
        return self.wrapped(node, value)

    def create_proxy(
        self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A new node, evaluated, and what traced code is given for it."""
        self.flush_guards()
        node = self.create_node(kind, target, args, kwargs)
        return self.wrapped(node, self.values[node])

    def create_node(
        self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> fx.Node:
        """A new node, evaluated."""
        self._refuse_caught()
        kind, target, args = self.contexts.applied(self, kind, target, args)
        owner = self.recorder.current_path
        given = tuple(map(self.argument, args))
        named = {key: self.argument(value) for key, value in kwargs.items()}
        name = node_name(owner, target, given) if kind in ("call_function", "call_method") else None
        node = self.graph.create_node(kind, target, given, named, name)
        frame, outermost = sys._getframe(1), ValueTracer.trace.__code__
        self.sites[node] = site_of(frame, outermost)
        self.globals.note(frame, outermost, owner)
        self.current = node
        value = self._evaluated(node)
        self._enter(node, owner, value)
        return node

    def _evaluated(self, node: fx.Node) -> Any:
        self._draws.check()
        done = False
        try:
            value = evaluate(self, self._known, node)
            done = True
        finally:
            if not done and not self._failed:
                self.graph.erase_node(node)
                place = self.place(sys._getframe(2))
                self._failed = f"goes on after an exception that {node.name} raised at {place}"
        if node.op == "call_module":
            self._draws.accept()
        return value

    def _enter(self, node: fx.Node, owner: str, value: Any) -> None:
        self.owners[node.name] = owner
        self.values[node] = value
        self._known.add(node, value)
        self.modes.follow(node)
        self.checkpoints.note(node)

    # -- what traced code is given, and gives ------------------------------------------------

    def wrapped(self, node: fx.Node, value: Any) -> Any:
        """What traced code is given for a node of some value."""
        if value is None:
            return self.missing(node)
        if isinstance(value, torch.Tensor):
            return value
        if value not in self._known:
            return proxy_of(node, self)
        if type(value) is tuple:
            return Pieces.of([self._piece(node, i, v) for i, v in enumerate(value)], node, self)
        made: Any = value
        if type(value) is list:
            self.guard_count(node)
            made = [self._piece(node, i, v) for i, v in enumerate(value)]
        elif type(value) is dict:
            keys = self.create_node("call_function", tuple, (node,), {})
            self.decided(self.values[keys], keys)
            made = {key: self._piece(node, key, v) for key, v in value.items()}
        self._known.remember(node, made)
        return made

    def _piece(self, node: fx.Node, key: Any, value: Any) -> Any:
        """What a structure holds, with a proxy for a number."""
        if value is None or any(isinstance(leaf, torch.Tensor) for leaf in leaves_of(value)):
            return value
        piece = self.create_node("call_function", operator.getitem, (node, key), {})
        return self.wrapped(piece, value)

    def missing(self, node: fx.Node) -> Any:
        """None, of which code asks whether it is there; it may depend on the mode."""
        if node.op == "call_module" or node.target is operator.getitem:
            self.modes.decide(*self.modes.of_module(node))
            self.decided(None, node)

    def argument(self, value: Any) -> Any:
        """What a node is given for a value of traced code.

        Raises:
            TraceError: a graph cannot hold it.
        """
        return node_argument(self, value)

    def returned(self, value: Any) -> Any:
        """What the graph returns.

        Raises:
            TraceError: it is an object that a graph cannot make.
        """
        self.is_returning = True
        return self.argument(value)

    def node_of(self, value: Any) -> fx.Node | None:
        """The node that computes a tensor or another object; None if there is none."""
        found = self._known.node_of(value)
        if found is not None:
            return found
        if isinstance(value, torch.Tensor):
            held = self._known.held(value)
            if held is not None:
                node = held.node
                for function, key in held.steps:
                    node = self.create_node("call_function", function, (node, key), {})
                self._known.add(node, value)
                return node
        return self.attributes.node_of(value)

    def name_of(self, tensor: torch.Tensor) -> str | None:
        """The name of the node that computes a tensor; None where it is in a structure only."""
        node = self._known.node_of(tensor)
        return None if node is None else node.name

    @property
    def watched(self) -> tuple[Watched, ...]:
        """The attributes and global variables that traced code read."""
        return (*self.attributes.watched.values(), *self.globals.watched.values())

    def call_module(
        self, call: Callable[..., Any], module: nn.Module, args: Any, kwargs: dict[str, Any]
    ) -> Any:
        """Open a module, or make it a node."""
        path = self.attributes.paths.get(module)
        if path is None:
            if not self.evaluating and not self.attributes.holds_all(module):
                raise self.refuse(
                    f"calls a {type(module).__name__} that is not a submodule",
                    "make it in __init__ and assign it to self, or use an nn.ModuleList",
                )
            return call(module, *args, **kwargs)
        if not self.evaluating and path not in self.opened:
            return self.create_proxy("call_module", path, args, kwargs)
        if not self.evaluating:
            self.globals.note_module(module, path)
        given = [tensor for _, tensor in tensors_with_steps((args, kwargs))]
        with self.recorder.calling(path, given):
            if self.evaluating:
                return call(module, *args, **kwargs)
            self.modes.enter([self.name_of(tensor) for tensor in given])
            returned = call(module, *args, **kwargs)
            self.modes.leave([self.name_of(t) for _, t in tensors_with_steps(returned)])
        if isinstance(returned, torch.Tensor):
            node = self.node_of(returned)
            if node is not None:
                self.results[path] = node
        return returned

    def modes_set(self, module: nn.Module) -> None:
        """Code has set the mode of a module: its flags are what it set."""
        self.attributes.flags_set(module)

    def _call_whole(self, function: Any, args: Any, kwargs: Any) -> Any:
        if self.evaluating:
            return function(*args, **kwargs)
        return self.create_proxy("call_function", function, args, kwargs)

    # -- what traced code decides by ---------------------------------------------------------

    def ask_gradients(self, what: str) -> bool:
        """The answer to a question whether gradients are computed."""
        self.questions.append(f"{what} in {self.decision(sys._getframe(1)).where}")
        return self.gradients

    def refuse(self, what: str, remedy: str) -> TraceError:
        """The error that refuses the code that runs now."""
        error = TraceError(f"{self.place(sys._getframe(1))} {what}; {remedy}")
        self._refusal = error
        return error

    def refuse_data(self, what: str) -> Exception:
        """The error that refuses code that looks at the values of tensors."""
        self._refusal = DataDependentError(what)
        return self._refusal

    def _refuse_caught(self) -> None:
        """Refuse code that went on after something was refused, or raised by a call.

        Raises:
            TraceError: it did.
        """
        if self._refusal is not None:
            raise self._refusal
        if self._failed:
            raise self.refuse(self._failed, "decide by shapes or flags instead")
