"""A symbolic tracer whose proxies know an example value.

Every node is evaluated on meta tensors as it is made. So shapes are known while tracing,
control flow on shapes follows the example (and is guarded), and what depends on data is
refused, with the line of the code. Only the modules that are named are opened; every other one
is a node, with its own code and its own mode.
"""

import builtins
import operator
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from types import FrameType, FunctionType
from typing import Any, NoReturn
from unittest import mock

import torch
from torch import fx, nn
from torch.fx.node import map_arg

from fxtransport.example import Example
from fxtransport.runtime import call_without_gradient, guard, without_gradient
from fxtransport.tracing.error_context import describe_module, source_line
from fxtransport.tracing.free_functions import FreeFunction, free_function, record_calls
from fxtransport.tracing.recorder import DataDependentError, Recorder, tensors_in
from fxtransport.tracing.sites import Site, attribute_of, input_names, node_name, site_of
from fxtransport.tracing.value_proxy import ProxyTracer, ValueProxy

FACTORIES = (
    "arange empty eye full linspace logspace ones rand randint randn randperm scalar_tensor "
    "tensor as_tensor tril_indices triu_indices zeros"
).split()
"""Functions of torch that make tensors from numbers, which would be constants otherwise."""

_len = len


@dataclass(frozen=True)
class _Decision:
    """Where code looked at a number."""

    where: str
    function: FreeFunction | None


class ValueTracer(ProxyTracer):
    """Traces a shadow into one graph, opening only the modules at the given paths.

    Calls of the functions in ``whole`` become nodes, too.

    After :meth:`trace`, ``values`` has the example value of every node, ``owners`` the path
    of the module whose code made it, ``sites`` the place in the code that did, and
    ``mode_branches`` the places where the code took a decision on a ``training`` flag, and
    ``deciding`` the functions outside of modules that decided on shapes.
    """

    def __init__(
        self,
        opened: frozenset[str],
        example: Example,
        recorder: Recorder,
        whole: Sequence[FreeFunction] = (),
    ) -> None:
        super().__init__()
        self.opened = opened
        self.example, self.inputs = example, example.inputs
        self.recorder = recorder
        self.whole = whole
        self.values: dict[fx.Node, Any] = {}
        self.owners: dict[str, str] = {}
        self.results: dict[str, fx.Node] = {}
        self.sites: dict[fx.Node, Site] = {}
        self.node_of_tensor: dict[int, fx.Node] = {}
        self.current: fx.Node | None = None
        self.mode_branches: list[str] = []
        self.deciding: list[FreeFunction] = []
        self._mode_nodes: set[fx.Node] = set()
        self._parameter_names: dict[int, str] = {}
        self._pending: list[tuple[ValueProxy, FrameType, int, _Decision]] = []
        self._evaluating = False

    def trace(  # type: ignore[override]
        self, root: nn.Module, concrete_args: dict[str, Any] | None = None
    ) -> fx.Graph:
        """The graph of a shadow's forward."""
        named = [*root.named_parameters(), *root.named_buffers()]
        self._parameter_names = {id(t): name for name, t in reversed(named)}
        flags = {m: path for path, m in root.named_modules() if path in self.opened}
        with ExitStack() as stack:
            for name in FACTORIES:
                stack.enter_context(mock.patch.object(torch, name, self._factory(name)))
            stack.enter_context(mock.patch.object(builtins, "len", self._length))
            for module, path in flags.items():
                stack.enter_context(_training_as_proxy(self, module, path))
            stack.enter_context(record_calls(self.whole, self._call_whole))
            stack.enter_context(self.recorder)
            stack.enter_context(self.recorder.calling("", ()))
            return super().trace(root)

    def create_args_for_root(
        self, root_fn: Any, is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        """Placeholders for the example's inputs; other arguments keep their defaults."""
        names = self.example.names or input_names(root_fn, len(self.inputs))
        proxies = [self.create_proxy("placeholder", name, (), {}) for name in names]
        # what is no tensor is a constant of the graph
        given = [
            proxy if tensors_in(value) else value
            for proxy, value in zip(proxies, self.inputs, strict=True)
        ]

        def call(root: nn.Module, *inputs: Any) -> Any:
            return self.example.call(partial(root_fn, root), inputs)

        return call, [self.root, *given]

    def proxy(self, node: fx.Node) -> ValueProxy:
        """A proxy that knows its value."""
        return ValueProxy(node, self)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Parameters and buffers become nodes under the user's names."""
        name = self._parameter_names.get(id(attr_val))
        if self._evaluating or name is None:
            return attr_val
        if name not in parameter_proxy_cache:
            parameter_proxy_cache[name] = self.create_proxy("get_attr", name, (), {})
        return parameter_proxy_cache[name]

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Open a module, or make it a node."""
        assert self.submodule_paths is not None
        path = self.submodule_paths.get(m)
        if path is None:
            return forward(*args, **kwargs)
        if not self._evaluating and path not in self.opened:
            return self.create_proxy("call_module", path, args, kwargs)
        with self.recorder.calling(path, ()):
            returned = forward(*args, **kwargs)
        if type(returned) is ValueProxy:
            self.results[path] = returned.node
        return returned

    def create_proxy(
        self,
        kind: str,
        target: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str | None = None,
        type_expr: Any = None,
        proxy_factory_fn: Any = None,
    ) -> Any:
        """A new node, evaluated."""
        self._flush_guards()
        if not torch.is_grad_enabled() and kind.startswith("call_"):
            kind, target, args = self._without_gradient(kind, target, args)
        owner = self.recorder.current_path
        if kind in ("call_function", "call_method"):
            name = node_name(owner, target, args)
        node = self.create_node(
            kind, target, self.create_arg(args), self.create_arg(kwargs), name, type_expr
        )
        self.owners[node.name] = owner
        self.sites[node] = site_of(sys._getframe(1), ValueTracer.trace.__code__)
        self._evaluate(node)
        inputs = node.all_input_nodes
        if inputs and all(n in self._mode_nodes for n in inputs):
            self._mode_nodes.add(node)
        proxy = self.proxy(node)
        if self.values[node] is None and (kind == "call_module" or target is operator.getitem):
            # code asks whether something is None, which no proxy is
            self.mode_branches.append(owner)
            return self.pinned(proxy)
        return proxy

    def _without_gradient(
        self, kind: str, target: Any, args: tuple[Any, ...]
    ) -> tuple[str, Any, tuple[Any, ...]]:
        """A call that the model's code makes under ``torch.no_grad``."""
        if target in (getattr, guard, call_without_gradient):
            return kind, target, args
        if kind == "call_module":
            module = self.create_proxy("get_attr", target, (), {})
            return "call_function", call_without_gradient, (module, *args)
        function = getattr(torch.Tensor, target) if kind == "call_method" else target
        return "call_function", without_gradient(function), args

    def create_arg(self, a: Any) -> Any:
        """A node's argument."""
        if type(a) is ValueProxy:
            return a.node
        if is_dataclass(a) and not isinstance(a, type):
            made = {f.name: getattr(a, f.name) for f in fields(a)}
            return self.create_proxy("call_function", type(a), (), made).node
        if isinstance(a, tuple) and hasattr(a, "_fields"):
            return self.create_proxy("call_function", type(a), tuple(a), {}).node
        if type(a) is OrderedDict:
            # fx would make a plain dict of it
            return self.create_proxy("call_function", OrderedDict, (list(a.items()),), {}).node
        if isinstance(a, torch.Tensor):
            known = id(a) in self._parameter_names or a in self.tensor_attrs
            if not known:
                raise DataDependentError(
                    "a tensor is made in a way that would freeze it into the graph; "
                    "make it a buffer of the module"
                )
        return super().create_arg(a)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Decide as the example does, and guard the decision."""
        assert isinstance(obj, ValueProxy)
        if isinstance(obj.example, torch.Tensor):
            self._refuse("the truth of a tensor decides")
        return bool(self.pinned(obj))

    def number(self, proxy: ValueProxy) -> Any:
        """A proxy's value, which must not be a tensor."""
        if isinstance(proxy.example, torch.Tensor):
            self._refuse("a tensor is turned into a number")
        return proxy.example

    def pinned(self, proxy: ValueProxy) -> Any:
        """A proxy's value; the graph refuses inputs for which it is another."""
        value = self.number(proxy)
        if proxy.node in self._mode_nodes:
            self.mode_branches.append(self.recorder.current_path or "the model")
            return value
        self._guard(proxy, self._decision(sys._getframe(1)))
        return value

    def expect_guard(self, proxy: ValueProxy, frame: FrameType) -> None:
        """A number was asked for: guard it, unless torch only looks at its type.

        The parser of torch's arguments asks a proxy for its number, then hands it back by
        ``__torch_function__`` from the same instruction of the same frame.
        """
        self.number(proxy)
        self._pending.append((proxy, frame, frame.f_lasti, self._decision(frame)))

    def drop_guards(self, frame: FrameType) -> None:
        """Forget the numbers that the argument parser asked for in this instruction."""
        self._pending = [p for p in self._pending if not (p[1] is frame and p[2] == frame.f_lasti)]

    def _guard(self, proxy: ValueProxy, decision: "_Decision") -> None:
        """A node that refuses inputs for which a number is another than for the example."""
        if decision.function is not None:
            self.deciding.append(decision.function)
        self.create_proxy("call_function", guard, (proxy, proxy.example, decision.where), {})

    def _decision(self, frame: FrameType) -> "_Decision":
        path = self.recorder.current_path
        return _Decision(
            f"{describe_module(self.root, path)} at {source_line(frame)}", free_function(frame)
        )

    def training_flag(self, path: str) -> Any:
        """The proxy of a module's ``training`` flag."""
        target = f"{path}.training" if path else "training"
        proxy = self.create_proxy("get_attr", target, (), {})
        self._mode_nodes.add(proxy.node)
        return proxy

    @property
    def evaluating(self) -> bool:
        """Whether a node's value is being computed, so that nothing must be traced."""
        return self._evaluating

    def _flush_guards(self) -> None:
        pending, self._pending = self._pending, []
        for proxy, _, _, decision in pending:
            if proxy.node in self._mode_nodes:
                self.pinned(proxy)
            else:
                self._guard(proxy, decision)

    def _evaluate(self, node: fx.Node) -> None:
        args = map_arg(node.args, self.values.__getitem__)
        kwargs = map_arg(node.kwargs, self.values.__getitem__)
        self.current, self._evaluating = node, True
        try:
            with torch.device("meta"), torch.no_grad():
                value = self._run(node, args, kwargs)
        finally:
            self._evaluating = False
        self.values[node] = value
        for tensor in tensors_in(value):
            self.node_of_tensor[id(tensor)] = node

    def _run(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        match node.op:
            case "placeholder":
                position = sum(n.op == "placeholder" for n in self.values)
                return self.inputs[position]
            case "get_attr":
                return attribute_of(self.root, str(node.target))
            case "call_module":
                return self.root.get_submodule(str(node.target))(*args, **kwargs)
            case "call_method":
                return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        assert callable(node.target), f"a node of kind {node.op} has no value"
        return node.target(*args, **kwargs)

    def _factory(self, name: str) -> Callable[..., Any]:
        function = getattr(torch, name)

        def make(*args: Any, **kwargs: Any) -> Any:
            if self._evaluating:
                return function(*args, **kwargs)
            return self.create_proxy("call_function", function, args, kwargs)

        return make

    def _call_whole(self, function: FunctionType, args: Any, kwargs: Any) -> Any:
        return self.create_proxy("call_function", function, args, kwargs)

    def _length(self, x: Any) -> Any:
        """``len``, which for a tensor is a node, because it varies with the batch."""
        if type(x) is ValueProxy and isinstance(x.example, torch.Tensor):
            return x.shape[0]
        return _len(x)

    def _refuse(self, what: str) -> NoReturn:
        raise DataDependentError(what)


@contextmanager
def _training_as_proxy(tracer: ValueTracer, module: nn.Module, path: str) -> Iterator[None]:
    """While active, ``module.training`` read by traced code is a node.

    A subclass of the module's own class, made for this shadow alone, has the flag as a
    property; ``isinstance`` and ``super`` work as before.
    """
    value = module.training

    def read(_: nn.Module) -> Any:
        return value if tracer.evaluating else tracer.training_flag(path)

    cls = type(module)
    members = {"training": property(read), "__module__": cls.__module__}
    object.__setattr__(module, "__class__", type(cls.__name__, (cls,), members))
    try:
        yield
    finally:
        object.__setattr__(module, "__class__", cls)
