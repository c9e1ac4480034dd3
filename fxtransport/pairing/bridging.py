"""From the images of a student to the input of a teacher, and from weights to other weights."""

import torch

from fxtransport.errors import UsageError
from fxtransport.example import Example
from fxtransport.pairing.teachers import Normalization, OpenTeacher
from fxtransport.program import Program
from fxtransport.training import Bridge


def make_bridge(example: Example, opened: OpenTeacher, own: Normalization | None) -> Bridge:
    """From the student's input to the teacher's.

    Raises:
        UsageError: it cannot be made.
    """
    shapes = [[tuple(x.shape[1:]) for x in e.tensors] for e in (example, opened.example)]
    if shapes[0] == shapes[1] and len(shapes[0]) != 1:
        return Bridge()
    sizes = [shape[0] if len(shape) == 1 else () for shape in shapes]
    if sizes[0] != sizes[1]:
        images = all(len(size) == 3 for size in sizes)
        if not images or sizes[0][0] not in (1, sizes[1][0]):
            given, taken = ("×".join(map(str, size)) or "several inputs" for size in sizes)
            raise UsageError(
                f"the student is given {given} and {opened.name} takes {taken}: give the student "
                "an input_size with the teacher's channels, or another teacher"
            )
    other = opened.normalization
    if own is None or other is None or len(sizes[0]) != 3:
        return Bridge(None if sizes[0] == sizes[1] else sizes[1])
    return Bridge(
        None if sizes[0] == sizes[1] else sizes[1],
        _for_channels(own, sizes[0][0]),
        _for_channels(other, sizes[1][0]),
    )


def _for_channels(given: Normalization, channels: int) -> Normalization:
    """Numbers for a number of channels: of a gray image, their means."""
    mean, std = (tuple(map(float, values)) for values in given)
    if len(mean) in (1, channels):
        return mean, std
    return (sum(mean) / len(mean),), (sum(std) / len(std),)


def copy_weights(state: dict[str, torch.Tensor], program: Program, source: str) -> tuple[str, ...]:
    """Copy weights and buffers into a program, wherever names and shapes agree.

    Args:
        state: Those of another model.
        program: What they are copied into.
        source: Whose they are, for the error.

    Returns:
        The names of what has no counterpart.

    Raises:
        UsageError: nothing agrees.
    """
    own = program.model_state_dict()
    shared = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    if not shared:
        raise UsageError(
            f"the student has no weights of the names and shapes of {source}'s: build it as the "
            "teacher is, or begin with weights of its own"
        )
    with torch.no_grad():
        for name, tensor in shared.items():
            own[name].copy_(tensor)
    return tuple(name for name in own if name not in shared)
