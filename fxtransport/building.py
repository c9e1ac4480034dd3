"""A bound on what a constructor may build, for models whose options come from a file."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as registry

from fxtransport.errors import SavedProgramError

LARGEST = 2**31 - 1
"""The largest number among options: of more blocks, channels or pixels no model is made."""


def check_numbers(options: Any, what: str) -> None:
    """See that no number in options is huge.

    Args:
        options: Values of JSON or TOML, nested.
        what: What they are, for the error.

    Raises:
        SavedProgramError: one is.
    """
    match options:
        case bool() | str() | None:
            return
        case int() | float():
            if not -LARGEST <= options <= LARGEST:
                raise SavedProgramError(
                    f"{what} have a number, {options!s:.40}, above {LARGEST}, which no model needs"
                )
        case Mapping():
            for value in options.values():
                check_numbers(value, what)
        case Sequence():
            for value in options:
                check_numbers(value, what)


@contextmanager
def limited(modules: int, elements: int) -> Iterator[None]:
    """While active, this thread builds models up to a size.

    Args:
        modules: The most submodules, parameters and buffers together.
        elements: The most elements of one parameter or buffer.

    Raises:
        SavedProgramError: more are built.
    """
    thread, count = threading.get_ident(), 0

    def check(_: nn.Module, name: str, added: Any) -> None:
        nonlocal count
        if threading.get_ident() != thread:
            return
        count += 1
        if count > modules:
            raise SavedProgramError(
                f"its options build a model of more than {modules} modules and tensors, and its "
                "weights are of a smaller one"
            )
        if isinstance(added, torch.Tensor) and added.numel() > elements:
            raise SavedProgramError(
                f"its options build a model with {name} of {added.numel()} elements, and its "
                "weights are of a smaller one"
            )

    handles = [
        registry.register_module_module_registration_hook(check),
        registry.register_module_parameter_registration_hook(check),
        registry.register_module_buffer_registration_hook(check),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
