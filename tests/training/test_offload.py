"""Parts that do not train are away, and nothing else changes.

Where there is no other device, the CPU's memory is the device, and a shelf in it another one.
"""

import re
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxtransport import Program
from fxtransport.errors import RunInterruptedError, UsageError
from fxtransport.objectives import Objective, lap
from fxtransport.program import Part
from fxtransport.training import (
    EndToEnd,
    MultiLap,
    Observer,
    OptimizerSettings,
    Parallel,
    Position,
    Schedule,
    Sequential,
    StepReport,
    Trainer,
    evaluate,
)
from fxtransport.training.flatten import Flattened
from fxtransport.training.monitors import PolyakLojasiewicz
from fxtransport.training.offload import Offload
from fxtransport.training.places import Storage, copy_to
from tests.training.runs import (
    Signaller,
    SmallNet,
    calm,
    program_of,
    samples,
    train_stream,
    trainer_of,
    validation_stream,
)

ADAMW = OptimizerSettings("adamw", lr=0.01, scheduler="cosine")
COUNT = 4
"""The bytes of AdamW's count of steps, which it keeps on the CPU."""


class Shelf:
    """A place from which parts must be brought before they run."""

    def __init__(self) -> None:
        self.kept: list[Storage] = []

    def holds(self, storage: Storage) -> bool:
        at_rest = any(storage.data_ptr() == kept.data_ptr() for kept in self.kept)
        return at_rest or storage.nbytes() == COUNT

    def keep(self, storages: Sequence[Storage]) -> list[Storage]:
        kept = [copy_to(storage, torch.device("cpu")) for storage in storages]
        self.kept += kept
        return kept

    def settle(self) -> None:
        pass

    def serves(self, device: torch.device) -> bool:
        return False


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    found = Shelf()
    monkeypatch.setattr("fxtransport.training.trainer.choose_place", lambda *_: found)
    return found


def tensors_of(trainer: Trainer, k: int) -> list[Tensor]:
    """All of a part: parameters, buffers, and what its optimizer keeps of them."""
    part, optimizer = trainer.program.parts[k], trainer._engine.state.learners[k].optimizer
    states = [v for state in optimizer.state.values() for v in state.values()]
    found = [*part.parameters(), *part.buffers(), *(v for v in states if v.nbytes != COUNT)]
    assert len(found) > len(states) or not states
    return found


def on_device(trainer: Trainer, shelf: Shelf) -> set[int]:
    """The parts of which something is on the device."""
    return {
        k
        for k in range(len(trainer.program.parts))
        if any(not shelf.holds(t.untyped_storage()) for t in tensors_of(trainer, k))
    }


class Watch(Observer):
    """Notes after each step which parts are on the device, and in each forward of a part."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.after_steps: list[set[int]] = []
        self.forwards: list[tuple[int, set[int]]] = []

    def attach(self, trainer: Trainer) -> None:
        self.trainer = trainer
        for part in trainer.program.parts:
            part.register_forward_pre_hook(self.on_forward)

    def on_forward(self, part: nn.Module, _: Any) -> None:
        assert isinstance(part, Part)
        for tensor in (*part.parameters(), *part.buffers()):
            assert not self.shelf.holds(tensor.untyped_storage()), "a part runs where it rests"
        self.forwards.append((part.index, on_device(self.trainer, self.shelf)))

    def on_step(self, step: StepReport, position: Position) -> None:
        self.after_steps.append(on_device(self.trainer, self.shelf))


def everything(trainer: Trainer) -> dict[str, Any]:
    """The state of a run, without the random numbers of other tests."""
    found = trainer._engine.state.state_dict()
    del found["random"], found["elapsed"]
    flat = Flattened(found)
    return {"tree": flat.tree, **flat.tensors}


def assert_same(run: Trainer, other: Trainer) -> None:
    first, second = everything(run), everything(other)
    assert first.keys() == second.keys()
    assert len(first) > 20
    for name, value in first.items():
        same = torch.equal(value, second[name]) if name != "tree" else value == second[name]
        assert same, name


def fit(run: Path, schedule: Schedule, make: Callable[[], nn.Module] = calm, **options: Any) -> Any:
    watch = options.pop("watch", None)
    trainer = trainer_of(
        schedule,
        run,
        program=program_of(make, modules=3),
        optimizer=options.pop("optimizer", ADAMW),
        observers=[watch] if watch else (),
        **options,
    )
    if watch:
        watch.attach(trainer)
    trainer.fit(train_stream(), validation_stream(), validation_stream())
    return trainer


@pytest.mark.parametrize("options", [{"update_frozen_bn": True}, {"cache_hidden": True}, {}])
def test_a_run_is_the_run_without(options: dict[str, Any], shelf: Shelf, tmp_path: Path) -> None:
    """Every tensor of it, and at each moment no other part is on the device."""
    schedule, watch = MultiLap(1, laps=2), Watch(shelf)
    monitors = [PolyakLojasiewicz(*samples(4).batch(range(4)))]
    plain = fit(tmp_path / "plain", schedule, monitors=monitors, **options)
    assert shelf.kept == []
    options = {**options, "offload": "frozen", "monitors": monitors}
    offloaded = fit(tmp_path / "offloaded", schedule, watch=watch, **options)
    assert_same(plain, offloaded)
    assert watch.after_steps == [{k} for _ in range(2) for k in range(3) for _ in range(3)]
    # the part that runs, and of those that rest the one alone that was trained last
    assert all(index in present for index, present in watch.forwards)
    assert max(len(present) for _, present in watch.forwards) == 2
    assert on_device(offloaded, shelf) == set(), "all is in one place at the end"


def test_with_a_cache_nothing_comes_back(shelf: Shelf, tmp_path: Path) -> None:
    """After the hidden states of a phase are known, no frozen part is on the device in training."""
    watch = Watch(shelf)
    trainer = trainer_of(
        Sequential(2),
        tmp_path,
        program=program_of(calm, modules=3),
        observers=[watch],
        cache_hidden=True,
        offload="frozen",
    )
    watch.attach(trainer)
    trainer.fit(train_stream())
    steps, cached = 6, 3
    trained = [(k, {k}) for k in range(3) for _ in range(steps)]
    first = [(0, {0, 1})] * cached
    second = [(0, {0, 2}), (1, {1, 2})] * cached
    assert watch.forwards == [*trained[:6], *first, *trained[6:12], *second, *trained[12:]]


def test_on_the_cpu_parts_rest_on_the_disk(tmp_path: Path) -> None:
    options: dict[str, Any] = {"optimizer": ADAMW, "make": SmallNet}
    plain = fit(tmp_path / "plain", MultiLap(1, laps=2), **options)
    offloaded = fit(tmp_path / "offloaded", MultiLap(1, laps=2), offload="frozen", **options)
    assert_same(plain, offloaded)
    place = offloaded._engine.offload._place
    resting = [
        all(place.holds(tensor.untyped_storage()) for tensor in tensors_of(offloaded, k))
        for k in range(3)
    ]
    assert resting == [True, True, False]
    names = [{path.name for path in (tmp_path / run).iterdir()} for run in ("plain", "offloaded")]
    assert {re.sub("-.*", "", name) for name in names[0] ^ names[1]} <= {"last", "best"}


@pytest.mark.parametrize("again", [{"offload": "frozen"}, {}])
def test_an_offloaded_run_resumes(again: dict[str, Any], shelf: Shelf, tmp_path: Path) -> None:
    schedule, run = MultiLap(1, laps=2), tmp_path / "run"
    options: dict[str, Any] = {"optimizer": ADAMW}
    with pytest.raises(RunInterruptedError):
        trainer_of(
            schedule, run, observers=[Signaller(8, signal.SIGINT)], offload="frozen", **options
        ).fit(train_stream(), validation_stream())
    resumed = trainer_of(schedule, run, **again, **options)
    resumed.restore()
    resumed.fit(train_stream(), validation_stream())
    plain = trainer_of(schedule, tmp_path / "plain", **options)
    plain.fit(train_stream(), validation_stream())
    assert_same(plain, resumed)


def steps_by_hand(program: Program, objective: Objective, **settings: Any) -> Trainer:
    """Two laps of a loop of one's own."""
    trainer = trainer_of(
        MultiLap(1, laps=2), program=program, objective=objective, optimizer=ADAMW, **settings
    )
    for _ in range(4):
        for _ in range(2):
            trainer.step(*samples(8).batch(range(8)))
        trainer.end_epoch()
    return trainer


def test_a_loop_of_your_own(shelf: Shelf) -> None:
    runs = [
        steps_by_hand(program_of(calm), lap(0.5, 0.1, 2), offload=offload)
        for offload in (None, "frozen")
    ]
    assert_same(*runs)
    assert on_device(runs[1], shelf) == {1}
    runs[1].collect()
    assert on_device(runs[1], shelf) == set()
    runs[0].collect()
    accuracies = [evaluate(run.program, validation_stream())[1].accuracy for run in runs]
    assert accuracies[0] == accuracies[1]


def test_what_an_optimizer_keeps_on_the_cpu_stays(shelf: Shelf) -> None:
    """A count of steps that came to the device would be refused by the optimizer, or be slow."""
    trainer = trainer_of(MultiLap(1, laps=2), optimizer=ADAMW, offload="frozen")
    images, targets = samples(8).batch(range(8))
    trainer.step(images, targets)
    states = trainer._engine.state.learners[0].optimizer.state.values()
    counts = [state["step"] for state in states]
    before = [(count.data_ptr(), count.item()) for count in counts]
    for _ in range(2):
        trainer.end_epoch()
        trainer.step(images, targets)
    assert trainer.phase.lap == 1
    assert [(count.data_ptr(), count.item() - 1) for count in counts] == before


def test_only_state_on_the_device_leaves_it(shelf: Shelf) -> None:
    """As above, on another device, wherever parts rest."""
    trainer = trainer_of(Sequential(1), optimizer=ADAMW)
    trainer.step(*samples(8).batch(range(8)))
    parts, learners = trainer.program.parts, trainer._engine.state.learners
    states = [v for s in learners[0].optimizer.state.values() for v in s.values()]
    before = [state.data_ptr() for state in states]
    assert len(before) > 10
    Offload(torch.device("meta"), shelf, parts, learners).arrange(())
    assert [state.data_ptr() for state in states] == before
    for tensor in (*parts[0].parameters(), *parts[0].buffers()):
        assert shelf.holds(tensor.untyped_storage())


class Aliased(SmallNet):
    """Two parameters of the last part lie in the same memory."""

    def __init__(self) -> None:
        super().__init__(dropout=0.0)
        first, last = self.blocks[2].get_submodule("conv"), self.blocks[3].get_submodule("conv")
        last.weight = nn.Parameter(first.weight.detach())


def test_tensors_that_share_memory_go_on_sharing_it(shelf: Shelf) -> None:
    programs = [program_of(Aliased), program_of(Aliased)]
    runs = [
        steps_by_hand(program, lap(0.5, 0.1, 2), offload=offload)
        for program, offload in zip(programs, (None, "frozen"), strict=True)
    ]
    assert_same(*runs)
    first, last = (programs[1].get_parameter(f"blocks.{k}.conv.weight") for k in (2, 3))
    assert first.data_ptr() == last.data_ptr()


def test_strides_stay(shelf: Shelf) -> None:
    trainer = trainer_of(Sequential(1), offload="frozen", channels_last=True)
    for _ in range(2):
        trainer.step(*samples(8).batch(range(8)))
        trainer.end_epoch()
    weights = [p for p in trainer.program.parameters() if p.dim() == 4 and p.shape[2] > 1]
    assert len(weights) > 3
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)


class Devices(Observer):
    """Notes after each step where the parts are, with the moments of their optimizers."""

    def __init__(self) -> None:
        self.found: list[list[set[str]]] = []

    def on_step(self, step: StepReport, position: Position) -> None:
        parts = range(len(self.trainer.program.parts))
        self.found.append([{t.device.type for t in tensors_of(self.trainer, k)} for k in parts])

    def attach(self, trainer: Trainer) -> None:
        self.trainer = trainer


@pytest.mark.cuda
@pytest.mark.parametrize("to", ["cpu", "disk"])
def test_on_a_gpu(to: str, tmp_path: Path) -> None:
    """The part that trains is there alone; sums on a GPU may differ in their last bits."""
    options: dict[str, Any] = {"device": "cuda", "offload": "frozen", "offload_to": to}
    watch, schedule = Devices(), MultiLap(1, laps=2)
    found = fit(tmp_path / "offloaded", schedule, watch=watch, **options).program.state_dict()
    expected = fit(tmp_path / "plain", schedule, device="cuda").program.state_dict()
    assert {value.device.type for value in found.values()} == {"cpu"}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value.cpu(), msg=name, rtol=1e-3, atol=1e-4)
    places = [[{"cuda" if j == k else "cpu"} for j in range(3)] for k in range(3)]
    assert watch.found == [places[k] for _ in range(2) for k in range(3) for _ in range(3)]


@pytest.mark.parametrize(
    ("schedule", "modules"), [(Parallel(1), 2), (EndToEnd(1), 1), (Sequential(1), 1)]
)
def test_where_nothing_rests_it_is_refused(schedule: Schedule, modules: int) -> None:
    with pytest.raises(UsageError) as caught:
        trainer_of(schedule, program=program_of(calm, modules), offload="frozen")
    text = str(caught.value)
    assert f"with {schedule} each part of this program trains in every step" in text
    assert "with Sequential or MultiLap, or without offload" in text
    trainer_of(Sequential(1), Path("unused"), program=program_of(calm, 2), offload="frozen")
