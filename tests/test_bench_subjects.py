"""A model by its name, and that of a run."""

import pytest
import torch

from fxtransport.bench_subjects import open_bench
from fxtransport.errors import UsageError
from fxtransport.input_size import InputSize
from tests.runs.photos import photo_run


def test_a_model_is_built_twice() -> None:
    found = open_bench("test_resnet", modules=3, input_size=InputSize.parse("32"))
    assert len(found.program.parts) == 3
    assert found.shape == (3, 32, 32)
    assert not {id(p) for p in found.model.parameters()} & {
        id(p) for p in found.program.parameters()
    }


def test_a_run_needs_no_data_and_knows_its_parts() -> None:
    found = open_bench(str(photo_run()))
    assert (len(found.program.parts), found.shape) == (2, (3, 32, 32))
    assert found.model(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
    with pytest.raises(UsageError, match="is a run, which knows its parts and its size"):
        open_bench(str(photo_run()), modules=3)
