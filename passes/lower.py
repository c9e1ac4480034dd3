"""Turn the graph into Python functions: the whole forward, the tapped one, and each module's."""

import linecache
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import fx, nn

from fxtransport.ir import PartitionPlan, Taps
from fxtransport.passes.base import Pass, Unit


@dataclass(frozen=True)
class Function:
    """A generated function. Its first argument is a module with the model's submodules."""

    call: Callable[..., Any]
    source: str
    inputs: tuple[str, ...]

    def __deepcopy__(self, memo: object) -> "Function":
        return self


@dataclass(frozen=True)
class LoweredModule:
    """One module of the partition."""

    function: Function
    """Returns the hidden state that leaves, a tuple, and the energies inside, a list."""
    owned: tuple[str, ...]
    """The paths of the submodules, parameters and buffers that it uses; of a submodule that
    it alone uses, only the outermost path."""
    residues: tuple[str, ...]


@dataclass(frozen=True)
class Lowered:
    """The functions that a program runs."""

    forward: Function
    """Returns what the model returns."""
    transport: Function
    """Returns what the model returns, and the residues, a list."""
    modules: tuple[LoweredModule, ...]


@dataclass(frozen=True)
class Lower(Pass):
    """Generate the functions of the program from the graph."""

    name: ClassVar[str] = "lower"
    requires: ClassVar[tuple[type, ...]] = (PartitionPlan, Taps)
    provides: ClassVar[tuple[type, ...]] = (Lowered,)

    def run(self, unit: Unit) -> Unit:
        """Add the functions."""
        graph, taps = unit.traced(), unit.fact(Taps)
        name = type(unit.model).__name__
        nodes = [n for n in graph.nodes if n.op != "output"]
        returned = graph.output_node().args[0]
        inputs = [n for n in nodes if n.op == "placeholder"]
        needed = [n for n in nodes if n.name not in taps.added]
        tapped = [n for n in nodes if n.name in set(taps.residues)]
        tapped.sort(key=lambda n: taps.residues.index(n.name))
        modules = lower_modules(graph, unit.fact(PartitionPlan), taps, unit.model)
        return unit.with_facts(
            Lowered(
                forward=function(f"{name} forward", inputs, needed, returned),
                transport=function(f"{name} transport", inputs, nodes, (returned, tapped)),
                modules=modules,
            )
        )


def mean_square(residue: torch.Tensor) -> torch.Tensor:
    """The mean over batch, channels and positions of the squared residue, in float32 at least.

    The energy of a block as the authors' released code takes it (methods: LAP 5.3).
    """
    if residue.dtype in (torch.float16, torch.bfloat16):
        residue = residue.float()
    return residue.square().mean()


def lower_modules(
    graph: fx.Graph, plan: PartitionPlan, taps: Taps, model: nn.Module
) -> tuple[LoweredModule, ...]:
    """The function of each module of the partition."""
    nodes = {n.name: n for n in graph.nodes}
    order = [n for n in graph.nodes if n.op != "output"]
    functions: list[Function] = []
    targets: list[set[str]] = []
    residues: list[tuple[str, ...]] = []
    start = 0
    for k, segment in enumerate(plan.segments):
        last = k == plan.modules - 1
        end = len(order) if last else order.index(nodes[segment.last]) + 1
        body = [n for n in order[start:end] if n.op not in ("placeholder", "get_attr")]
        returned = graph.output_node().args[0] if last else tuple(nodes[o] for o in segment.outputs)
        used = {i for n in body for i in n.all_input_nodes}.union(_nodes_in(returned))
        # attributes are read again by each module that needs them
        body = [n for n in order if n.op == "get_attr" and n in used] + body
        tapped = [n for n in body if n.name in taps.residues]
        inputs = [nodes[i] for i in segment.inputs]
        name = f"{type(model).__name__} module {k}"
        functions.append(function(name, inputs, body, returned, energies_of=tapped))
        targets.append({str(n.target) for n in body if n.op in ("get_attr", "call_module")})
        residues.append(tuple(n.name for n in tapped))
        start = end
    owned = owned_paths(model, targets)
    return tuple(LoweredModule(*each) for each in zip(functions, owned, residues, strict=True))


def owned_paths(model: nn.Module, targets: Sequence[set[str]]) -> list[tuple[str, ...]]:
    """For each module of a partition, the outermost paths of what it uses of the model.

    Args:
        model: The model.
        targets: For each module, the paths that its nodes refer to.
    """
    users: dict[str, set[int]] = {}
    for k, paths in enumerate(targets):
        for path in paths:
            names = path.split(".")
            for depth in range(1, len(names) + 1):
                users.setdefault(".".join(names[:depth]), set()).add(k)

    def owned(k: int, module: nn.Module, prefix: str) -> Iterator[str]:
        for name in [*module._modules, *module._parameters, *module._buffers]:
            path = f"{prefix}{name}"
            if k not in users.get(path, ()):
                continue
            child = module._modules.get(name)
            if child is None or users[path] == {k} or path in targets[k]:
                yield path
            else:
                yield from owned(k, child, f"{path}.")

    return [tuple(owned(k, model, "")) for k in range(len(targets))]


def function(
    name: str,
    inputs: Sequence[fx.Node],
    body: Iterable[fx.Node],
    returned: Any,
    energies_of: Sequence[fx.Node] | None = None,
) -> Function:
    """A function of some nodes of a graph.

    Args:
        name: What tracebacks call it.
        inputs: The nodes whose values are its arguments.
        body: What it computes, in order.
        returned: What it returns, made of nodes.
        energies_of: If given, it returns a pair, whose second is the mean squares of these
            nodes, each computed as soon as its node is, before anything can overwrite it.
    """
    graph = fx.Graph()
    copies = {node: graph.placeholder(node.name) for node in inputs}
    energies = []
    for node in body:
        if node.op == "placeholder":
            continue
        copies[node] = graph.node_copy(node, copies.__getitem__)
        if energies_of is not None and node in energies_of:
            energies.append(graph.call_function(mean_square, (copies[node],)))
    result = fx.map_arg(returned, copies.__getitem__)
    graph.output(result if energies_of is None else (result, energies))
    graph.lint()
    return _compile(name, graph)


def _compile(name: str, graph: fx.Graph) -> Function:
    code = graph.python_code("self")
    filename = f"<fxtransport {name}>"
    lines = code.src.splitlines(keepends=True)
    # tracebacks and torch.compile look up source lines here
    linecache.cache[filename] = (len(code.src), None, lines, filename)
    namespace = dict(code.globals)
    exec(compile(code.src, filename, "exec"), namespace)
    inputs = tuple(n.name for n in graph.nodes if n.op == "placeholder")
    return Function(namespace["forward"], code.src, inputs)


def _nodes_in(returned: Any) -> list[fx.Node]:
    found: list[fx.Node] = []
    fx.map_arg(returned, found.append)
    return found
