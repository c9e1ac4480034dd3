"""What frozen parts return is computed once, and is what they return."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fxtransport.data import ShuffledStream
from fxtransport.data.streams import Batch
from fxtransport.errors import CheckpointError, UsageError
from fxtransport.files import file_hash
from fxtransport.training import MultiLap, Observer, Parallel, Phase, Position, Sequential
from fxtransport.training.cache import (
    HiddenSamples,
    cache_hidden_states,
    check_cacheable,
    write_rows,
)
from fxtransport.training.checkpoint import RunFolder
from tests.training.runs import (
    calm,
    program_of,
    samples,
    train_stream,
    trainer_of,
    validation_stream,
)


def test_rows_are_written_and_read(tmp_path: Path) -> None:
    rows = {
        "0": torch.randn(7, 2, 3),
        "1": torch.randn(7, 5).bfloat16(),
        "2": torch.rand(7) > 0.5,
        "10": torch.randn(7, 2, 2, dtype=torch.float64).mT,
        "targets": torch.arange(7),
    }
    path = tmp_path / "rows.safetensors"
    batches = ({k: v[i : i + 3] for k, v in rows.items()} for i in range(0, 7, 3))
    write_rows(path, batches, 7)
    found = load_file(path)
    assert found.keys() == rows.keys()
    for name, values in found.items():
        assert torch.equal(values, rows[name])
        assert values.dtype == rows[name].dtype
    hidden, targets = HiddenSamples(path).batch([5, 0, 6])
    assert targets.tolist() == [5, 0, 6]
    # in the order of their numbers, not of the text
    for name, values in zip(("0", "1", "2", "10"), hidden, strict=True):
        assert torch.equal(values, rows[name][[5, 0, 6]])


def test_a_run_with_a_cache_is_the_run_without(tmp_path: Path) -> None:
    runs = []
    for cached in (False, True):
        trainer = trainer_of(
            MultiLap(1, laps=2),
            tmp_path / str(cached),
            program=program_of(calm, modules=3),
            cache_hidden=cached,
        )
        report = trainer.fit(train_stream(), validation_stream())
        runs.append((report, trainer.program.state_dict()))
    for name, value in runs[0][1].items():
        torch.testing.assert_close(runs[1][1][name], value, msg=name)
    assert runs[0][0].best == runs[1][0].best
    # only the last phase's is kept
    assert len(list((tmp_path / "True").glob("hidden-*"))) == 1
    assert not list((tmp_path / "False").glob("hidden-*"))


class Calls(Observer):
    """Counts the batches that the first part forwards, in each phase."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def on_phase(self, phase: Phase, position: Position) -> None:
        self.counts.append(0)

    def count(self, *_: Any) -> None:
        self.counts[-1] += 1


def test_frozen_parts_run_once_for_each_batch(tmp_path: Path) -> None:
    program, calls = program_of(modules=2), Calls()
    program.parts[0].register_forward_hook(calls.count)
    trainer_of(Sequential(4), tmp_path, program=program, observers=[calls], cache_hidden=True).fit(
        train_stream()
    )
    assert calls.counts == [12, 3]


def test_a_resumed_phase_uses_its_file(tmp_path: Path) -> None:
    options: dict[str, Any] = {"cache_hidden": True, "checkpoint_minutes": 1e-9}

    class Stop(Observer):
        def on_step(self, step: Any, position: Position) -> None:
            if position.steps == 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer_of(Sequential(1), tmp_path, observers=[Stop()], **options).fit(train_stream())
    program, calls = program_of(), Calls()
    program.parts[0].register_forward_hook(calls.count)
    resumed = trainer_of(Sequential(1), tmp_path, program=program, observers=[calls], **options)
    assert resumed.restore().steps == 4
    resumed.fit(train_stream())
    # a batch, by which the file is known to hold what the frozen parts return
    assert calls.counts == [1]
    alone = trainer_of(Sequential(1), tmp_path / "alone", **options)
    alone.fit(train_stream())
    for name, value in alone.program.state_dict().items():
        assert torch.equal(resumed.program.state_dict()[name], value), name


def test_damaged_hidden_states_are_computed_again(tmp_path: Path) -> None:
    folder, parts, made = RunFolder(tmp_path), [nn.Identity()], []

    def states(inputs: Tensor) -> Tensor:
        made.append(len(inputs))
        return inputs * 2

    def hidden(train: ShuffledStream) -> Tensor:
        cached = cache_hidden_states(train, states, parts, folder)
        assert isinstance(cached, ShuffledStream)
        inputs, _ = cached.samples.batch(range(len(cached.samples)))
        assert isinstance(inputs, Tensor)
        return inputs

    expected = train_stream().samples.batch(range(22))[0] * 2
    assert torch.equal(hidden(train_stream()), expected)
    assert torch.equal(hidden(train_stream()), expected)
    assert made == [8, 8, 6, 8]
    [path] = tmp_path.glob("hidden-*")
    path.write_bytes(path.read_bytes()[:-200] + bytes(200))
    assert torch.equal(hidden(train_stream()), expected)
    assert len(made) == 7
    # samples of which the last is another
    assert not torch.equal(hidden(replace(train_stream(), samples=samples(22, seed=8))), expected)
    assert len(list(tmp_path.glob("hidden-*"))) == 1


@pytest.mark.parametrize("change", ["name", "dtype", "shape", "rows", "targets"])
def test_other_hidden_states_under_the_right_hash(change: str, tmp_path: Path) -> None:
    def cache() -> None:
        cache_hidden_states(train_stream(), lambda x: x * 2, [nn.Identity()], RunFolder(tmp_path))

    cache()
    [path] = tmp_path.glob("hidden-*")
    tensors = load_file(path)
    match change:
        case "name":
            tensors["x"] = tensors.pop("0")
        case "dtype":
            tensors["0"] = tensors["0"].to(torch.int64)
        case "shape":
            tensors["0"] = tensors["0"][..., None]
        case "rows":
            tensors = {name: tensor[1:].clone() for name, tensor in tensors.items()}
        case _:
            del tensors["targets"]
    save_file(tensors, path)
    name = f"{path.stem.rpartition('-')[0]}-{file_hash(path)[:16]}.safetensors"
    path.rename(tmp_path / name)
    with pytest.raises(CheckpointError, match=f"{name} does not hold what the frozen parts return"):
        cache()


@dataclass(frozen=True)
class Augmented:
    """Samples with noise that is drawn whenever they are fetched."""

    def __len__(self) -> int:
        return 8

    def batch(self, indices: Sequence[int]) -> Batch:
        inputs, targets = samples(8).batch(indices)
        return inputs + torch.randn_like(inputs), targets


def mix(inputs: Tensor, targets: Tensor) -> Batch:
    return inputs, targets


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (replace(train_stream(), mix=mix), "cannot be used with mixup"),
        (ShuffledStream(Augmented(), 4, seed=0), "with random augmentation"),
        ([samples(8).batch(range(8))], "needs a stream of fxtransport.data"),
    ],
)
def test_what_changes_is_not_cached(train: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        trainer_of(Sequential(1), tmp_path, cache_hidden=True).fit(train)


def test_a_cache_needs_a_folder() -> None:
    with pytest.raises(UsageError, match="needs a run folder"):
        trainer_of(Sequential(1), cache_hidden=True).fit(train_stream())


def test_nothing_is_cached_where_nothing_is_frozen(tmp_path: Path) -> None:
    stream = train_stream()
    assert check_cacheable(stream) is stream
    trainer_of(Parallel(1), tmp_path, cache_hidden=True).fit(train_stream())
    assert not list(tmp_path.glob("hidden-*"))
