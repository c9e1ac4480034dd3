"""Turn nested state, such as an optimizer's, into tensors and JSON, and back. No pickle."""

from collections.abc import Mapping
from typing import Any

import torch

from fxtransport.errors import CheckpointError

_PLAIN = (bool, int, float, str, type(None))


class Flattened:
    """Nested state as a tree of JSON and the tensors that it refers to.

    The state may hold dictionaries (with keys of any plain type), lists, tuples, tensors,
    numbers, strings and None. Tensors that are the same view of the same memory are kept once.

    Args:
        state: The state to flatten.

    Raises:
        CheckpointError: it holds something of another type; the message says where.

    >>> state = {0: {"step": torch.tensor(3.0), "betas": (0.9, 0.99)}}
    >>> flat = Flattened(state)
    >>> flat.tree
    {'dict': [[0, {'dict': [['step', {'tensor': '0.step'}], ['betas', {'tuple': [0.9, 0.99]}]]}]]}
    >>> unflatten(flat.tree, flat.tensors) == state
    True
    """

    def __init__(self, state: Any) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self._names: dict[tuple[object, ...], str] = {}
        self._storages: set[int] = set()
        self.tree = self._flatten(state, ())

    def _flatten(self, state: Any, path: tuple[object, ...]) -> Any:
        if isinstance(state, torch.Tensor):
            return self._tensor(state, ".".join(map(str, path)))
        if isinstance(state, Mapping):
            pairs = [[self._plain(k, path), self._flatten(v, (*path, k))] for k, v in state.items()]
            return {"dict": pairs}
        if type(state) in (list, tuple):
            items = [self._flatten(item, (*path, i)) for i, item in enumerate(state)]
            return items if isinstance(state, list) else {"tuple": items}
        return self._plain(state, path)

    def _plain(self, value: Any, path: tuple[object, ...]) -> Any:
        if isinstance(value, _PLAIN):
            return value
        raise CheckpointError(
            f"cannot save {'.'.join(map(str, path)) or 'the state'}: a checkpoint holds tensors, "
            f"numbers and strings, and this is of type {type(value).__name__}"
        )

    def _tensor(self, tensor: torch.Tensor, name: str) -> dict[str, Any]:
        tensor = tensor.detach()
        if tensor.layout is not torch.strided or tensor.is_meta:
            raise CheckpointError(
                f"cannot save {name}: it is not a dense tensor, or it is on the meta device"
            )
        storage = tensor.untyped_storage()._cdata
        key = (storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
        if key not in self._names:
            self._names[key] = name
            # safetensors refuses tensors that share memory
            shared = storage in self._storages
            self._storages.add(storage)
            dense = tensor.clone(memory_format=torch.contiguous_format) if shared else tensor
            self.tensors[name] = dense.contiguous()
        entry: dict[str, Any] = {"tensor": self._names[key]}
        if not tensor.is_contiguous():
            entry["stride"] = list(tensor.stride())
        return entry


def unflatten(tree: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The state that was flattened.

    Args:
        tree: :attr:`Flattened.tree`, also after a round trip through JSON.
        tensors: :attr:`Flattened.tensors`.

    Raises:
        CheckpointError: the tree is damaged, or a tensor is missing.
    """
    match tree:
        case list():
            return [unflatten(item, tensors) for item in tree]
        case {"tuple": [*items]}:
            return tuple(unflatten(item, tensors) for item in items)
        case {"dict": [*pairs]} if all(isinstance(p, list) and len(p) == 2 for p in pairs):
            return {key: unflatten(value, tensors) for key, value in pairs}
        case {"tensor": str(name)} if name in tensors:
            return _strided(tensors[name], tree.get("stride"))
        case _ if isinstance(tree, _PLAIN):
            return tree
    raise CheckpointError(f"the state of the checkpoint is damaged at {str(tree)[:80]}")


def _strided(tensor: torch.Tensor, stride: list[int] | None) -> torch.Tensor:
    if stride is None:
        return tensor
    return torch.empty_strided(tensor.shape, stride, dtype=tensor.dtype).copy_(tensor)
