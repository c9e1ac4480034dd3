"""A batch of a single sample, of which batch norm has no variance, is seen ahead."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from fxtransport.errors import MODEL_ERRORS, UsageError, first_line
from fxtransport.fakes import without_data
from fxtransport.program import Part, Program
from fxtransport.randomness import fork_rng


def check_last_batch(
    train: Any, program: Program, parts_of: Callable[[Program], Sequence[Part]], accumulate: int
) -> None:
    """Check that what is trained takes the smallest piece of a batch, if that is one sample.

    Args:
        train: Training batches. Streams, data loaders and lists of batches tell their sizes.
        program: What is trained. It is not changed: a copy without data is given one sample.
        parts_of: The parts of a program that train.
        accumulate: In how many pieces a batch is trained.

    Raises:
        UsageError: a part does not take it.
    """
    sizes = batch_sizes(train)
    if not any(_last_piece(size, accumulate) == 1 for size in sizes):
        return
    reason = _refusal(program, parts_of)
    if reason is None:
        return
    if _last_piece(sizes[0], accumulate) == 1 and accumulate > 1:
        remedy = "choose a batch size that accumulate divides, or train without accumulate"
    elif sizes[0] == 1:
        remedy = "choose a larger batch size"
    else:
        remedy = "leave it out with drop_last=True, or choose another batch size"
    of = "the last batch" if sizes[0] > 1 else "a batch"
    piece = f"a piece of {of} is" if accumulate > 1 and max(sizes) > 1 else f"{of} is"
    raise UsageError(f"{piece} a single sample, which cannot be trained on: {reason}; {remedy}")


def batch_sizes(train: Any) -> tuple[int, ...]:
    """The sizes of full batches and of the last one; nothing where batches do not tell.

    >>> batch_sizes([([0, 0], [1, 1]), ([0], [1])])
    (2, 1)
    """
    train = getattr(train, "batches", train)
    if isinstance(train, list):
        return tuple(sorted({len(targets) for _, targets in train}, reverse=True))
    size = getattr(train, "batch_size", None)
    samples = getattr(train, "num_samples", None)
    if samples is None and getattr(train, "sampler", None) is not None:
        samples = len(train.sampler)
        if train.drop_last and type(size) is int:
            samples -= samples % size
    if type(size) is not int or type(samples) is not int:
        return ()
    return (size, samples % size) if samples % size and samples > size else (min(size, samples),)


def _last_piece(size: int, accumulate: int) -> int:
    """How many samples the smallest piece of a batch has, as ``Tensor.chunk`` cuts it."""
    piece = -(-size // accumulate)
    return size % piece or piece if size else 0


def _refusal(program: Program, parts_of: Callable[[Program], Sequence[Part]]) -> str | None:
    """Why the parts of a program do not take one sample in train mode; None if they do."""
    device = torch.device("cpu")
    inputs: Any = program.facts.example.resized(1, device)
    with fork_rng(0), without_data(device) as fakes, torch.no_grad():
        copy = fakes.copy(program).train()
        given = tuple(map(fakes.tensor, inputs))
        hidden: Any = given[0] if len(given) == 1 else given
        try:
            for part in parts_of(copy):
                hidden = part(hidden).hidden
        except ValueError as error:
            return first_line(error)
        except MODEL_ERRORS:
            # what runs with data need not run without: the step itself will tell
            return None
    return None
