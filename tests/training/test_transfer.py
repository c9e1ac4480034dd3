"""A trainer with a regularizer: its steps, its metrics, and that it goes on as it was."""

import copy
import csv
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from fxtransport import Program
from fxtransport.errors import CheckpointError, RunInterruptedError, UsageError
from fxtransport.objectives import Objective, lap, plain, trgl
from fxtransport.pairing.pairs import Pair, pair
from fxtransport.training import (
    EndToEnd,
    MultiLap,
    OptimizerSettings,
    Parallel,
    Schedule,
    Sequential,
    Trainer,
    TrainerSettings,
)
from tests.networks import Net
from tests.training.runs import (
    SHAPE,
    Signaller,
    SmallNet,
    program_of,
    train_stream,
    validation_stream,
)


def pair_of(layers: Any, modules: int = 1, **options: Any) -> Pair:
    """A student with another teacher of the same architecture."""
    torch.manual_seed(7)
    teacher = SmallNet()
    torch.manual_seed(0)
    example = torch.zeros(2, *SHAPE)
    return pair(
        SmallNet(),
        teacher,
        layers,
        example_inputs=example,
        modules=modules,
        verify=False,
        **options,
    )


def trainer_of(
    found: Pair,
    text: str,
    schedule: Schedule,
    run: Path | None = None,
    *,
    objective: Objective | None = None,
    cache: Path | None = None,
    observers: Any = (),
    **settings: Any,
) -> Trainer:
    return Trainer(
        found.student,
        objective or plain(),
        schedule,
        optimizer=OptimizerSettings(lr=0.05),
        settings=TrainerSettings(**{"seed": 5, **settings}),
        run=run,
        transfer=found.transfer(text, cache=cache),
        observers=observers,
    )


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def state(program: Program) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in program.state_dict().items()}


def by_hand(found: Pair, steps: int) -> None:
    """What a user would write: end to end, Ω_P of what enters the classifier."""
    from fxtransport import ot

    optimizer = torch.optim.SGD(
        [
            {"params": [p for p in found.student.parameters() if p.ndim <= 1], "weight_decay": 0.0},
            {"params": [p for p in found.student.parameters() if p.ndim > 1]},
        ],
        lr=0.05,
        momentum=0.9,
        weight_decay=1e-4,
    )
    torch.manual_seed(5)
    found.student.train()
    for epoch in range(steps):
        for images, targets in train_stream().epoch(epoch):
            model = found.student._model[0]
            assert isinstance(model, SmallNet)
            own = model.blocks(model.stem(images)).mean((2, 3))
            loss = torch.nn.functional.cross_entropy(model.head(own), targets)
            other = found.teacher(images).activations["penultimate"]
            loss = loss + 0.5 * ot.omega(own.T, other.T)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def test_a_loop_written_by_hand_is_the_trainer() -> None:
    own, trained = pair_of("penultimate"), pair_of("penultimate")
    by_hand(own, 2)
    trainer_of(trained, "ot:0.5", EndToEnd(2)).fit(train_stream())
    for name, value in state(own.student).items():
        torch.testing.assert_close(trained.student.state_dict()[name], value, msg=name)


SCHEDULES: dict[str, tuple[Schedule, int, Objective]] = {
    "lap": (EndToEnd(2), 1, lap(lambda0=0.5, lambda_rate=0.1, update_every=2)),
    "trgl": (Parallel(2), 2, trgl(tau=[0.5, 1.0])),
    "sequential": (Sequential(1), 3, trgl(tau=0.5)),
    "multi-lap": (MultiLap(1, laps=2), 2, plain()),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_it_goes_with_every_schedule(name: str, tmp_path: Path) -> None:
    schedule, modules, objective = SCHEDULES[name]
    found = pair_of("auto", modules)
    text = "ot:0.1,kd:0.2,l2-sp:0.01"
    trainer = trainer_of(found, text, schedule, tmp_path, objective=copy.deepcopy(objective))
    report = trainer.fit(train_stream(), validation_stream())
    assert {exit.part for exit in report.exits} == set(range(modules))
    trained = [row for row in rows(tmp_path) if row["loss"]]
    assert [*trained[0]][-3:] == ["ot", "kd", "l2-sp"]
    for row in trained:
        numbers = {key: float(row[key]) for key in ("ot", "kd", "l2-sp", "loss", "classification")}
        transport, multiplier = row["transport"], row["multiplier"]
        cost = float(transport) / float(multiplier) if transport else 0.0
        if name in ("trgl", "sequential"):
            cost /= 2
        total = numbers["classification"] + cost
        total += 0.1 * numbers["ot"] + 0.2 * numbers["kd"] + 0.01 * numbers["l2-sp"]
        # λ of LAP changes within an epoch
        rel = 0.2 if name == "lap" else 1e-4
        assert numbers["loss"] == pytest.approx(total, rel=rel)
        assert min(numbers["ot"], numbers["kd"], numbers["l2-sp"]) > 0


@pytest.mark.parametrize(
    "settings",
    [{}, {"amp": "bf16"}, {"amp": "fp16"}, {"accumulate": 3, "grad_clip": 1.0}, {"ema": 0.9}],
    ids=str,
)
def test_a_run_that_was_interrupted_goes_on_bit_for_bit(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    whole = pair_of("auto", 2)
    trainer_of(whole, "ot:0.1,kd:0.5", Parallel(2), tmp_path / "whole", **settings).fit(
        train_stream(), validation_stream()
    )
    ended = tmp_path / "ended"
    watch = [Signaller(4, signal.SIGTERM)]
    with pytest.raises(RunInterruptedError):
        trainer_of(
            pair_of("auto", 2), "ot:0.1,kd:0.5", Parallel(2), ended, observers=watch, **settings
        ).fit(train_stream(), validation_stream())
    again = trainer_of(pair_of("auto", 2), "ot:0.1,kd:0.5", Parallel(2), ended, **settings)
    assert again.restore().steps == 4
    again.fit(train_stream(), validation_stream())
    for name, value in state(whole.student).items():
        assert torch.equal(again.program.state_dict()[name], value), name
    times = ("samples_per_second", "peak_memory", "elapsed")
    both = [
        [{k: v for k, v in row.items() if k not in times} for row in rows(run)]
        for run in (ended, tmp_path / "whole")
    ]
    assert both[0] == both[1]


def test_a_projection_trains_and_goes_on(tmp_path: Path) -> None:
    """Feature distillation between layers of other widths."""

    def wide() -> Pair:
        torch.manual_seed(7)
        teacher = Net(classes=3, width=6, input_size=SHAPE)
        torch.manual_seed(0)
        return pair(SmallNet(), teacher, example_inputs=torch.zeros(2, *SHAPE), verify=False)

    def trainer(run: Path, observers: Any = ()) -> Trainer:
        torch.manual_seed(1)
        return trainer_of(wide(), "feature:1", EndToEnd(3), run, observers=observers, grad_clip=1.0)

    whole, ended = (
        trainer(tmp_path / "whole"),
        trainer(tmp_path / "ended", [Signaller(4, signal.SIGTERM)]),
    )
    before = {k: v.clone() for k, v in _projection(whole).items()}
    whole.fit(train_stream())
    assert all(not torch.equal(before[k], v) for k, v in _projection(whole).items())
    with pytest.raises(RunInterruptedError):
        ended.fit(train_stream())
    again = trainer(tmp_path / "ended")
    again.restore()
    again.fit(train_stream())
    for one, other in ((whole, again),):
        for name, value in _projection(one).items():
            assert torch.equal(_projection(other)[name], value), name
        for name, value in state(one.program).items():
            assert torch.equal(other.program.state_dict()[name], value), name
    assert float(rows(tmp_path / "whole")[-1]["feature"]) < float(
        rows(tmp_path / "whole")[0]["feature"]
    )


def _projection(trainer: Trainer) -> dict[str, torch.Tensor]:
    guide = trainer._engine.guide
    assert guide is not None
    return dict(guide.regularizer.projections.state_dict())


def test_pieces_of_a_batch_have_the_mean_of_their_penalties() -> None:
    """kd is a mean over samples, so pieces of a batch add up to it."""
    found = [pair_of("penultimate") for _ in range(2)]
    images, targets = next(train_stream().epoch(0))
    steps = []
    for each, pieces in zip(found, (1, 4), strict=True):
        trainer = trainer_of(each, "kd:0.5", EndToEnd(1), accumulate=pieces)
        each.student.blocks.apply(lambda m: setattr(m, "p", 0.0))
        [step] = trainer.step(images, targets).parts
        steps.append(step)
    alone, pieced = steps
    torch.testing.assert_close(alone.penalties["kd"], pieced.penalties["kd"], rtol=0.3, atol=0.01)
    torch.testing.assert_close(
        pieced.loss, pieced.classification + 0.5 * pieced.penalties["kd"], rtol=1e-5, atol=1e-6
    )


def test_a_teacher_that_changed_is_refused(tmp_path: Path) -> None:
    first = pair_of("penultimate")
    trainer_of(first, "ot:0.1", EndToEnd(1), tmp_path).fit(train_stream())
    other = pair_of("penultimate")
    with torch.no_grad():
        other.teacher.program.stem.bias.add_(1e-4)
    changed = Pair(other.student, type(other.teacher)(other.teacher.program), other.layers)
    with pytest.raises(CheckpointError, match=r"another teacher: .* resume with the teacher"):
        trainer_of(changed, "ot:0.1", EndToEnd(1), tmp_path).restore()
    with pytest.raises(CheckpointError, match="another regularizer"):
        trainer_of(pair_of("penultimate"), "ot:0.2", EndToEnd(1), tmp_path).restore()
    assert trainer_of(pair_of("penultimate"), "ot:0.1", EndToEnd(1), tmp_path).restore().epochs == 1


def test_a_run_without_a_regularizer_cannot_go_on_with_one(tmp_path: Path) -> None:
    found = pair_of("penultimate")
    Trainer(found.student, plain(), EndToEnd(1), run=tmp_path).fit(train_stream())
    with pytest.raises(CheckpointError, match=r"another (settings|regularizer|optimizer)"):
        trainer_of(pair_of("penultimate"), "ot:0.1", EndToEnd(1), tmp_path).restore()


def test_a_cached_teacher_gives_the_same_run(tmp_path: Path) -> None:
    found = [pair_of("penultimate") for _ in range(2)]
    for each, cache in zip(found, (None, tmp_path / "cache"), strict=True):
        trainer_of(each, "ot:0.1,kd:0.5", EndToEnd(2), cache=cache).fit(train_stream())
    for name, value in state(found[0].student).items():
        torch.testing.assert_close(found[1].student.state_dict()[name], value, msg=name)
    assert len([*(tmp_path / "cache").iterdir()]) == 1


def test_the_teacher_stays_as_it_is() -> None:
    found = pair_of("penultimate")
    before = found.teacher.sha256
    trainer_of(found, "ot:0.1,kd:0.5", EndToEnd(1)).fit(train_stream())
    assert type(found.teacher)(found.teacher.program).sha256 == before


def test_hidden_states_cannot_be_cached_where_a_teacher_needs_images(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the teacher needs the images: train without"):
        trainer_of(pair_of("auto", 2), "ot:1", Sequential(1), tmp_path, cache_hidden=True)


def test_penalties_on_weights_need_no_teacher() -> None:
    from fxtransport.objectives.transfer import Regularizer
    from fxtransport.training import Transfer

    program = program_of(modules=1)
    before = sum(p.detach().square().sum() for p in program.parameters() if p.ndim > 1)
    transfer = Transfer(Regularizer("l2:1"))
    Trainer(program, plain(), EndToEnd(2), transfer=transfer).fit(train_stream())
    after = sum(p.detach().square().sum() for p in program.parameters() if p.ndim > 1)
    assert after < before


def test_it_compiles() -> None:
    """With parts compiled, nothing is compiled again from step to step."""
    found = pair_of("auto", 2)
    plainly = pair_of("auto", 2)
    steps = []
    for each, backend in ((found, "eager"), (plainly, None)):
        trainer = trainer_of(each, "ot:0.1,kd:0.5", Parallel(1), compile=backend)
        torch.manual_seed(3)
        images, targets = next(train_stream().epoch(0))
        trainer.step(images, targets)
        with torch._dynamo.config.patch(error_on_recompile=True):
            steps.append(trainer.step(images, targets))
    for one, other in zip(steps[0].parts, steps[1].parts, strict=True):
        torch.testing.assert_close(one.penalties["ot"], other.penalties["ot"], rtol=0.5, atol=1.0)
        assert one.penalties.keys() == other.penalties.keys() == {"ot", "kd"}
