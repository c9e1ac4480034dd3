"""Deep copies of modules, made faster than by ``copy.deepcopy``, and the same.

A module has a dozen dicts, most of them empty, and a model has hundreds of modules.
"""

import copy
import copyreg
import types
from collections import OrderedDict
from typing import Any

from torch import nn

ATOMS = frozenset(
    {
        *(int, float, bool, complex, str, bytes, type(None), type, range),
        *(types.FunctionType, types.BuiltinFunctionType),
    }
)
"""What a deep copy keeps as it is, and holds no tensors."""
_HOOKS = (
    *("__deepcopy__", "__getnewargs__", "__getnewargs_ex__"),
    *("__reduce__", "__reduce_ex__", "__getstate__", "__new__"),
)
"""By which a class says how it is copied."""


def copy_module(root: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """A deep copy of a module.

    Args:
        root: The module.
        memo: What is copied already, by identity, as for ``copy.deepcopy``.
    """
    plain = {kind for kind in {type(m) for m in root.modules()} if is_plain(kind)}
    modules = [m for m in root.modules() if type(m) in plain and "__deepcopy__" not in vars(m)]
    for module in modules:
        memo[id(module)] = type(module).__new__(type(module))
    for module in reversed(modules):
        # submodules come first, as in a deep copy
        state = {
            name: value if type(value) in ATOMS else _copied(value, memo)
            for name, value in module.__getstate__().items()
        }
        memo[id(module)].__setstate__(state)
    made: nn.Module = copy.deepcopy(root, memo)
    return made


def is_plain(cls: type[nn.Module]) -> bool:
    """Whether the modules of a class are copied attribute by attribute, as most are."""
    if cls in copyreg.dispatch_table or any(vars(c).get("__slots__") for c in cls.__mro__):
        return False
    if not cls.__setstate__.__module__.startswith(("torch.nn.", "torch._dynamo.")):
        return False  # those of torch look at no submodules; Dynamo wraps them
    return all(getattr(cls, name, None) is getattr(nn.Module, name, None) for name in _HOOKS)


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    kind = type(value)
    if kind in ATOMS:
        return value
    known = memo.get(id(value))
    if known is not None:
        return known
    if kind is dict or (kind is OrderedDict and not vars(value)):
        made = memo[id(value)] = kind()
        for key, inner in value.items():
            made[_copied(key, memo)] = _copied(inner, memo)
        return made
    return copy.deepcopy(value, memo)
