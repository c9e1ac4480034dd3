"""Keep what the frozen parts return for the training set on disk, computed once.

The safetensors file is written row by row, and mapped into memory when it is read.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from fxtransport.data import OrderedStream, Samples, ShuffledStream
from fxtransport.data.fingerprints import fingerprint
from fxtransport.errors import CheckpointError, UsageError
from fxtransport.randomness import fork_rng, random_state
from fxtransport.training.batches import Epochs
from fxtransport.training.checkpoint import RunFolder

TARGETS = "targets"
_NAMES = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""The name of each dtype in safetensors."""


class HiddenSamples:
    """Samples whose inputs are hidden states, read from a file as they are needed.

    Args:
        path: A safetensors file with the tensors ``0``, ``1``, … of the hidden states, N×…
            each, and ``targets``.
    """

    def __init__(self, path: Path) -> None:
        # mapped, not read: pages are loaded from the disk when their rows are read
        with safe_open(path, "pt") as file:
            names = sorted(set(file.keys()) - {TARGETS}, key=int)
            self._hidden = tuple(file.get_tensor(name) for name in names)
            self._targets = file.get_tensor(TARGETS)

    def __len__(self) -> int:
        return len(self._targets)

    def batch(self, indices: Sequence[int]) -> Any:
        """A copy of the hidden states (a tensor, or a tuple) and targets with these indices."""
        chosen = torch.tensor(indices, dtype=torch.int64)
        hidden = tuple(values[chosen] for values in self._hidden)
        return hidden[0] if len(hidden) == 1 else hidden, self._targets[chosen]

    def labels(self) -> torch.Tensor:
        """The classes."""
        targets: torch.Tensor = self._targets
        return targets


def check_cacheable(train: Epochs, option: str = "cache_hidden") -> ShuffledStream:
    """The training stream, if what frozen parts, or a teacher, return for a sample never changes.

    Args:
        train: The training batches.
        option: What needs that, for errors.

    Raises:
        UsageError: it does, or the samples have no indices.
    """
    advice = f"train without {option}, or without randomness in the data"
    if not isinstance(train, ShuffledStream):
        raise UsageError(f"{option} needs a stream of fxtransport.data, whose samples have indices")
    if train.mix is not None:
        raise UsageError(f"{option} cannot be used with mixup, which mixes images; {advice}")
    if _is_random(train.samples):
        raise UsageError(
            f"{option} cannot be used with random augmentation: what is kept of an image would "
            f"differ in every epoch; {advice}"
        )
    return train


def cache_hidden_states(
    train: ShuffledStream,
    frozen: Callable[[Any], Any],
    parts: Sequence[nn.Module],
    folder: RunFolder,
    observe: Callable[[], None] = lambda: None,
) -> Epochs:
    """A stream of the hidden states that frozen parts return, in the order of the inputs.

    Args:
        train: Batches of inputs.
        frozen: A function from a batch of inputs to a batch of hidden states.
        parts: The parts that it runs. A file that they made from these inputs is used again, if
            its content still has the hash in its name.
        folder: Where to keep the file. Those of other phases are deleted.
        observe: Called after every batch.

    Raises:
        CheckpointError: the file cannot be written, or the one that is there holds something
            else under the right hash.
        UsageError: a hidden state has no row for each sample.
    """
    batches = OrderedStream(train.samples, train.batch_size, train.num_workers)
    kind = f"hidden-{_key(batches, parts)[:16]}"
    path, rows = folder.find_tensors(kind), _rows(batches, frozen, observe)
    if path is not None:
        _check_file(path, next(rows), len(train.samples))
    else:
        with folder.new_file() as beside:
            write_rows(beside, rows, len(train.samples))
            path = folder.path / folder.put_tensors(beside, kind).file
    with folder.writing():
        folder.manifest.delete("hidden-", {path.name})
    return replace(train, samples=HiddenSamples(path), num_workers=0)


def _check_file(path: Path, first: Mapping[str, torch.Tensor], rows: int) -> None:
    """See that a file has the rows that begin with the first batch: names, dtypes and shapes.

    Raises:
        CheckpointError: it has others.
    """
    try:
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {name: (s.get_dtype(), [*s.get_shape()]) for name, s in slices.items()}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read {path}: {error}; delete it") from error
    expected = {n: (_NAMES[t.dtype], [rows, *t.shape[1:]]) for n, t in first.items()}
    if found != expected:
        raise CheckpointError(
            f"{path} does not hold what the frozen parts return for {rows} samples; delete it"
        )


def _is_random(samples: Samples) -> bool:
    """Whether fetching a sample draws from the global generators."""
    with fork_rng(0):
        before = random_state(torch.device("cpu"))
        samples.batch([0])
        after = random_state(torch.device("cpu"))
    drawn = not torch.equal(before.pop("torch"), after.pop("torch"))
    return drawn or before != after


def _key(batches: OrderedStream, parts: Sequence[nn.Module]) -> str:
    """A hash of what hidden states depend on: the parts and the samples.

    Of samples that do not tell what they are, it is of their number and of the first batch.
    """
    known = fingerprint(batches.samples)
    digest = hashlib.sha256(f"{len(batches.samples)} {known}".encode())
    states = [tensor for part in parts for tensor in part.state_dict().values()]
    for tensor in states if known else (*next(iter(batches)), *states):
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _rows(
    batches: OrderedStream, frozen: Callable[[Any], Any], observe: Callable[[], None]
) -> Iterator[dict[str, torch.Tensor]]:
    for inputs, targets in batches:
        hidden = frozen(inputs)
        columns = hidden if isinstance(hidden, tuple) else (hidden,)
        for values in columns:
            if len(values) != len(targets):
                # patches or windows may come before or after the samples in this dimension
                raise UsageError(
                    f"cache_hidden needs a row for each sample, and the frozen parts return a "
                    f"tensor of shape {tuple(values.shape)} for {len(targets)} samples; train "
                    "without cache_hidden, or cut the program elsewhere"
                )
        yield {**{str(i): values for i, values in enumerate(columns)}, TARGETS: targets}
        observe()


def write_rows(path: Path, batches: Iterator[Mapping[str, torch.Tensor]], rows: int) -> None:
    """Write tensors into a safetensors file batch by batch, holding one batch at a time.

    Args:
        path: The file.
        batches: Rows of the tensors, by name. All batches have the same names, dtypes and
            trailing shapes.
        rows: The number of rows in all batches together.
    """
    done = 0
    starts: dict[str, int] = {}
    with path.open("wb") as file:
        for batch in batches:
            if not starts:
                header, starts = _header(batch, rows)
                file.write(header)
            for name, values in batch.items():
                content = _bytes(values)
                file.seek(starts[name] + done * (len(content) // len(values)))
                file.write(content)
            done += len(next(iter(batch.values())))
    assert done == rows, f"{done} rows came instead of {rows}"


def _header(batch: Mapping[str, torch.Tensor], rows: int) -> tuple[bytes, dict[str, int]]:
    """The header of the file, and the offset of each tensor."""
    entries, offsets, end = {}, {}, 0
    # the widest dtype first, so that each tensor is aligned
    for name in sorted(batch, key=lambda name: (-batch[name].element_size(), name)):
        shape = [rows, *batch[name].shape[1:]]
        offsets[name] = end
        end += torch.Size(shape).numel() * batch[name].element_size()
        entries[name] = {
            "dtype": _NAMES[batch[name].dtype],
            "shape": shape,
            "data_offsets": [offsets[name], end],
        }
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    return header, {name: len(header) + offset for name, offset in offsets.items()}


def _bytes(tensor: torch.Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data
