"""Parameters that do not train, named by patterns, and batch norms that keep their statistics."""

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fxtransport.errors import UsageError
from fxtransport.program import HEADS, Program


def freeze(program: Program, patterns: Sequence[str]) -> tuple[nn.Module, ...]:
    """Let parameters of a program's model require no gradient.

    A pattern, in which ``*``, ``?`` and ``[…]`` have the meaning that they have in file names, is
    matched with the names of parameters and with the paths of modules, of which it means all
    parameters. Auxiliary heads are not the model's: they train.

    Args:
        program: The program.
        patterns: Such as ``layer1``, ``blocks.[0-5]`` or ``*.bias``.

    Returns:
        The batch norms of which every parameter is frozen, or whose path is matched. In eval mode
        they normalize by the statistics that they have, and keep them.

    Raises:
        UsageError: a pattern matches nothing.

    >>> import torch
    >>> from fxtransport import transportify
    >>> from fxtransport.nets import resnet_m
    >>> program = transportify(resnet_m(blocks=2, channels=4), torch.zeros(2, 1, 28, 28))
    >>> norms = freeze(program, ["blocks.0"])
    >>> frozen = [name for name, p in program.named_parameters() if not p.requires_grad]
    >>> all(name.startswith("blocks.0.") for name in frozen), len(norms)
    (True, 1)
    """
    own = {n: p for n, p in program.named_parameters() if not n.startswith(f"{HEADS}.")}
    for pattern in patterns:
        if not any(_matches(name, [pattern]) for name in own):
            known = dict.fromkeys(place for name in own for place in _places(name))
            close = difflib.get_close_matches(pattern, known, n=3) or [*known][:3]
            raise UsageError(
                f"freeze: {pattern!r} matches no parameter and no module: did you mean "
                f"{', '.join(close)}?"
            )
    for name, parameter in own.items():
        if _matches(name, patterns):
            parameter.requires_grad_(False)
    return tuple(
        module
        for path, module in program.named_modules()
        if isinstance(module, _BatchNorm) and not path.startswith(f"{HEADS}.")
        if _matches(path, patterns) or _is_frozen(module)
    )


def _is_frozen(module: nn.Module) -> bool:
    own = [*module.parameters(recurse=False)]
    return bool(own) and not any(parameter.requires_grad for parameter in own)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(place, pattern) for place in _places(name) for pattern in patterns)


def _places(name: str) -> list[str]:
    """A parameter or module, and the modules that it is in: ``a.b.c``, ``a``, ``a.b``."""
    steps = name.split(".")
    return [".".join(steps[:length]) for length in range(1, len(steps) + 1)]
