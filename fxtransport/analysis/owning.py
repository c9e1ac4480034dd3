"""What functions of a graph refer to of the model, by path."""

from collections.abc import Iterable, Iterator, Sequence

from torch import fx, nn

from fxtransport.analysis.regions import target_of
from fxtransport.runtime import ITSELF, Conditional, assign, set_mode


def targets_of(nodes: Iterable[fx.Node]) -> set[str]:
    """What some nodes refer to by path, also what they write."""
    found = set()
    for node in nodes:
        if node.op in ("get_attr", "call_module"):
            found.add(str(node.target))
            if _is_handed_on(node):
                found.add(str(node.target).removesuffix(ITSELF).rstrip("."))
        else:
            found |= attribute_of(node)
    return found


def _is_handed_on(node: fx.Node) -> bool:
    """Whether a module whose code is in the graph is given to what may call it."""
    if node.op != "get_attr" or not str(node.target).endswith(ITSELF):
        return False
    return any(target_of(user) not in (assign, getattr, set_mode) for user in node.users)


def attribute_of(node: fx.Node) -> set[str]:
    """The attribute that a node reads in its place, or writes; perhaps in one mode only."""
    target, args = node.target, node.args
    if isinstance(target, Conditional):
        target, args = target.function, args[1:]
    if target not in (assign, getattr):
        return set()
    holder, name = args[:2]
    if not isinstance(holder, fx.Node) or not str(holder.target).endswith(ITSELF):
        return set()
    return {f"{str(holder.target).removesuffix(ITSELF)}{name}"}


def writes_attribute(node: fx.Node) -> bool:
    """Whether a node sets an attribute of a module, perhaps in one mode only."""
    return target_of(node) is assign


def opened_paths(targets: Iterable[str]) -> tuple[str, ...]:
    """The paths of the modules around what a function refers to, without the root."""
    found = set()
    for path in targets:
        itself = path.endswith(ITSELF)
        around = path.removesuffix(ITSELF).rstrip(".") if itself else path.rpartition(".")[0]
        names = around.split(".") if around else []
        found |= {".".join(names[: depth + 1]) for depth in range(len(names))}
    return tuple(sorted(found))


def owned_paths(model: nn.Module, targets: Sequence[set[str]]) -> list[tuple[str, ...]]:
    """For each part of a partition, the outermost paths of what it uses of the model.

    Args:
        model: The model.
        targets: For each part, the paths that its nodes refer to.
    """
    users: dict[str, set[int]] = {}
    for k, paths in enumerate(targets):
        for path in paths:
            if path.endswith(ITSELF):
                continue
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
