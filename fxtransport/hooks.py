"""Hooks of modules whose code is in a program's graph: a program does not run them."""

from collections.abc import Mapping
from typing import Any

KINDS: Mapping[str, str] = {
    "_forward_pre_hooks": "a forward pre-hook",
    "_forward_hooks": "a forward hook",
    "_backward_pre_hooks": "a full backward pre-hook",
    "_backward_hooks": "a backward hook",
}
"""Where a module keeps hooks that run when it is called, and what they are called."""


def hook_of(module: Any) -> str | None:
    """The kind of a hook that is registered on a module: "a forward hook", say.

    Args:
        module: An ``nn.Module``.

    Returns:
        None if there is none.
    """
    if not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    ):
        return None
    for name, kind in KINDS.items():
        if any(not _computes_weights(hook) for hook in getattr(module, name).values()):
            return kind
    return None


def _computes_weights(hook: Any) -> bool:
    """Whether a hook is one of torch's own, such as weight norm, whose code is in the graph."""
    return type(hook).__module__.startswith("torch.nn.utils.")


def hook_error(path: str, module: Any, kind: str) -> str:
    """What to tell a user who registered a hook that a program does not run.

    Args:
        path: The module's path; empty for the model itself.
        module: The module.
        kind: The kind of the hook, from :func:`hook_of`.
    """
    where = f"{path or 'the model'} ({type(module).__name__})"
    return (
        f"{where} has {kind}, which a program does not run: the module's code is in the graph, and "
        "the module itself is not called; remove the hook, and register it on the program, on one "
        "of its parts, or on a submodule that adds nothing to a skip connection; what a module "
        "returns is also given by activations=[...] of transportify and program.activations"
    )
