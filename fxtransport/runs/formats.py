"""Weights and programs as files: safetensors, and what ``torch.export`` makes."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fxtransport.errors import UsageError, VerificationError, first_line
from fxtransport.files import path_beside, put
from fxtransport.training.tensor_files import write_errors

_BATCHES = (1, 3)
_RTOL, _ATOL = 1e-4, 1e-5


def example_inputs(size: tuple[int, ...], count: int) -> Tensor:
    """Inputs of noise, always the same, B×….

    Args:
        size: The shape of one.
        count: How many.
    """
    return torch.randn(count, *size, generator=torch.Generator().manual_seed(count))


def write_tensors(output: Path, state: Mapping[str, Tensor], described: Mapping[str, str]) -> None:
    """Write a safetensors file with its metadata. A file that is there is replaced atomically.

    Raises:
        CheckpointError: it cannot be written.
    """
    with write_errors(output.parent), path_beside(output) as beside:
        save_file(dict(state), beside, metadata=dict(described))
        put(beside, output)


@torch.no_grad()
def write_program(
    output: Path, model: nn.Module, examples: Callable[[int], Tensor], extra: Mapping[str, str]
) -> None:
    """Write what ``torch.export`` makes of a model, for batches of any size.

    Args:
        output: The file, which ``torch.export.load`` reads.
        model: Takes one tensor and returns one, in eval mode.
        examples: Makes an input of so many samples.
        extra: Texts that are put into the file, by name.

    Raises:
        UsageError: torch cannot export the model, or the file cannot be written.
        VerificationError: what was exported computes other numbers.
    """
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    content = io.BytesIO()
    try:
        program = torch.export.export(model, (examples(2),), dynamic_shapes=dynamic)
        torch.export.save(program, content, extra_files=dict(extra))
        content.seek(0)
        loaded = torch.export.load(content).module()
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"torch.export cannot export this model: {first_line(error)}") from error
    for count in _BATCHES:
        check_same(loaded(examples(count)), model(examples(count)), "torch.export")
    try:
        with path_beside(output) as beside:
            beside.write_bytes(content.getvalue())
            put(beside, output)
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror or error}") from error


def check_same(found: Tensor, expected: Tensor, what: str) -> None:
    """Check that logits are those of the run's program.

    Raises:
        VerificationError: they are others.
    """
    if not torch.allclose(found, expected, rtol=_RTOL, atol=_ATOL):
        worst = float((found - expected).abs().max())
        raise VerificationError(
            f"what {what} loads computes other logits than the run's program, which differ by up "
            f"to {worst:.3g}; nothing was written"
        )
