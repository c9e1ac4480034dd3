"""Train from the present position to the end of the schedule."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from fxtransport.errors import CheckpointError, RunInterruptedError, UsageError
from fxtransport.randomness import deterministic_algorithms, fork_rng, seed_all
from fxtransport.training.allocator import trim_memory
from fxtransport.training.batches import Batches, Epochs
from fxtransport.training.cache import cache_hidden_states, check_cacheable
from fxtransport.training.checkpoint import CHECKPOINT
from fxtransport.training.compiling import own_sessions
from fxtransport.training.devices import peak_memory, reset_peak_memory
from fxtransport.training.engine import Engine
from fxtransport.training.evaluate import evaluate
from fxtransport.training.identity import describe_data
from fxtransport.training.interrupts import SignalWatch
from fxtransport.training.lock import locked
from fxtransport.training.monitors import Monitor
from fxtransport.training.reports import (
    Compilation,
    EpochReport,
    Exit,
    FitReport,
    Observer,
    Plan,
)
from fxtransport.training.saver import Saver
from fxtransport.training.steps import LossError
from fxtransport.weights import distinct_state, load_weights

RESULTS = "results.json"


class _SignalReceivedError(Exception):
    """A signal was received, and the step is complete."""


@dataclass
class _Clock:
    """The time of an epoch, and what of it was compiling."""

    samples: int = 0
    compilation: Compilation = field(default_factory=Compilation)
    _began: float = field(default_factory=time.perf_counter)
    _left_out: int = 0

    @property
    def seconds(self) -> float:
        """Since the epoch began."""
        return time.perf_counter() - self._began

    def add(self, found: Compilation, samples: int) -> None:
        """A step of some samples compiled something."""
        self.compilation = _sum(self.compilation, found)
        self._left_out += samples

    def throughput(self, seconds: float) -> float:
        """Samples a second, of the steps that compiled nothing if there are any."""
        if self._left_out == self.samples:
            return self.samples / seconds
        return (self.samples - self._left_out) / (seconds - self.compilation.seconds)


def _sum(one: Compilation, other: Compilation) -> Compilation:
    return Compilation(one.graphs + other.graphs, one.seconds + other.seconds)


class Fit:
    """One call of ``Trainer.fit``.

    Args:
        engine: Makes the steps.
        saver: Writes the checkpoints.
        observers: Receive the reports.
        train: Training batches.
        validation: Evaluated after every epoch.
        test: Evaluated at the end.
        monitors: Measure the program after every epoch.

    Raises:
        UsageError: the data does not fit the settings.
    """

    def __init__(
        self,
        engine: Engine,
        saver: Saver,
        observers: Sequence[Observer],
        train: Epochs,
        validation: Batches | None,
        test: Batches | None,
        monitors: Sequence[Monitor] = (),
    ) -> None:
        if not len(train):
            raise UsageError("there is nothing to train on: an epoch has no batches")
        self._cacheable = check_cacheable(train) if engine.settings.cache_hidden else None
        if engine.settings.patience is not None and validation is None:
            raise UsageError(
                "patience waits for a better exit on the validation split, and there is none: hold "
                "out validation=0.1, or train without patience"
            )
        if self._cacheable and saver.folder is None:
            raise UsageError("cache_hidden needs a run folder to keep hidden states in; give run=…")
        self._engine = engine
        self._state = engine.state
        self._settings = engine.settings
        self._saver = saver
        self._observers = observers
        self._train = train
        self._validation = validation
        self._test = test
        self._monitors = monitors
        self._watch = SignalWatch()
        self._compilation = Compilation()
        self._announced: set[int] = set()
        self._earlier = 0.0
        self._began = time.perf_counter()

    def run(self) -> FitReport:
        """Train to the end.

        Raises:
            RunInterruptedError: a signal was received.
            TrainingError: a loss is not a finite number.
            CheckpointError: the folder holds another run, or cannot be written.
        """
        folder = self._saver.folder
        alone = nullcontext() if folder is None else locked(folder.path)
        sessions = nullcontext() if self._settings.compile is None else own_sessions()
        with alone, self._watch, sessions, deterministic_algorithms(self._settings.deterministic):
            try:
                return self._run()
            except LossError as error:
                raise self._saver.explain(error) from None
            finally:
                self._engine.collect()

    def _run(self) -> FitReport:
        try:
            self._begin()
            while self._goes_on:
                self._run_phase()
            return self._finish()
        except _SignalReceivedError:
            raise self._interrupted() from None

    @property
    def _goes_on(self) -> bool:
        """Whether there is another epoch to train."""
        return self._state.position.phase < len(self._engine.phases) and not self._is_stalled

    @property
    def _is_stalled(self) -> bool:
        """Whether no exit became better for as many epochs as the settings wait."""
        position, best, wait = (
            self._state.position,
            self._state.best.record,
            self._settings.patience,
        )
        if wait is None or best is None or position.batch:
            return False
        return position.epochs - best.epoch >= wait

    def _begin(self) -> None:
        if self._engine.guide is not None:
            # a loader may draw from the global generators
            with fork_rng(0):
                self._engine.guide.prepare(self._train, self._stop_if_signaled)
        restored = self._saver.begin()
        self._earlier, self._began = self._state.elapsed, time.perf_counter()
        steps, before = len(self._train), self._state.steps_per_epoch
        if before not in (None, steps):
            raise CheckpointError(
                f"the run's epochs have {before} steps, and with this data they would have "
                f"{steps}; resume with the data and the batch size that it began with"
            )
        self._state.steps_per_epoch = steps
        self._saver.check_data(describe_data(self._train, self._validation, self._test))
        if not restored and self._settings.seed is not None:
            seed_all(self._settings.seed)
        plan = Plan(
            self._engine.phases, len(self._train), self._state.position, self._state.finished
        )
        for observer in self._observers:
            observer.on_start(plan)
        if not restored or self._saver.extended:
            # so that a folder that cannot be written is noticed before an epoch is lost
            self._save()

    def _run_phase(self) -> None:
        self._engine.enter()
        number, phase = self._state.position.phase, self._engine.phase
        for observer in self._observers:
            observer.on_phase(phase, self._state.position)
        hidden = self._hidden()
        if self._state.device.type == "cpu":
            trim_memory()
        while self._state.position.phase == number and self._goes_on:
            self._run_epoch(self._train if hidden is None else hidden, is_hidden=hidden is not None)

    def _hidden(self) -> Epochs | None:
        """What the frozen parts return for the training batches, if that is cached."""
        if self._cacheable is None or not self._engine.frozen_parts:
            return None
        assert self._saver.folder is not None
        with fork_rng(0):
            return cache_hidden_states(
                self._cacheable,
                self._engine.hidden,
                self._engine.frozen_parts,
                self._saver.folder,
                self._stop_if_signaled,
            )

    def _run_epoch(self, batches: Epochs, *, is_hidden: bool) -> None:
        state = self._state
        if self._engine.offload is not None:
            self._engine.offload.settle()
        reset_peak_memory(state.device)
        clock = _Clock()
        for inputs, targets in batches.epoch(state.position.epochs, start=state.position.batch):
            self._announce_compiling()
            graphs = self._engine.graphs
            began = time.perf_counter()
            step = self._engine.step(inputs, targets, hidden=is_hidden)
            state.position = replace(state.position, batch=state.position.batch + 1)
            clock.samples += step.samples
            self._note_compiled(clock, step.samples, self._engine.graphs - graphs, began)
            for observer in self._observers:
                observer.on_step(step, state.position)
            self._stop_if_signaled()
            if self._saver.minutes >= (self._settings.checkpoint_minutes or float("inf")):
                self._save()
        self._end_epoch(clock)

    def _announce_compiling(self) -> None:
        """Say that the next step compiles: the first one of a phase."""
        backend, phase = self._settings.compile, self._state.position.phase
        if backend is not None and phase not in self._announced:
            self._announced.add(phase)
            for observer in self._observers:
                observer.on_compile(backend)

    def _note_compiled(self, clock: "_Clock", samples: int, graphs: int, began: float) -> None:
        """Leave a step that compiled something out of the throughput."""
        if not graphs:
            return
        if self._state.device.type != "cpu":
            torch.accelerator.synchronize(self._state.device)
        found = Compilation(graphs, time.perf_counter() - began)
        clock.add(found, samples)
        self._compilation = _sum(self._compilation, found)
        for observer in self._observers:
            observer.on_compiled(found)

    def _end_epoch(self, clock: "_Clock") -> None:
        """Validate, report, and save."""
        state, phase, number = self._state, self._engine.phase, self._state.position.phase
        seconds = clock.seconds
        peak = peak_memory(state.device)
        parts = state.meter.epoch(self._engine.learners)
        state.exits = self._evaluate(self._validation, self._engine.trained_exits)
        state.best.offer(state.exits, state.position.epochs + 1, state.validated)
        self._engine.end_epoch()
        report = EpochReport(
            position=replace(state.position, phase=number),
            phase=phase,
            parts=parts,
            exits=state.exits,
            best=state.best.record,
            seconds=seconds,
            samples_per_second=clock.throughput(seconds),
            peak_memory=peak,
            measured=self._measure(),
            compilation=clock.compilation,
            elapsed=self._elapsed(),
        )
        for observer in self._observers:
            observer.on_epoch(report)
        self._save()
        self._stop_if_signaled()

    def _measure(self) -> dict[str, float | None]:
        """What monitors measure of the program that is validated."""
        found: dict[str, float | None] = {}
        for monitor in self._monitors:
            with fork_rng(0), self._engine.gather():
                found |= monitor.measure(self._state.validated)
        return found

    def _evaluate(self, batches: Batches | None, parts: Sequence[int]) -> tuple[Exit, ...]:
        if batches is None:
            return ()
        # a loader may draw from the global generators
        with fork_rng(0):
            return evaluate(
                self._state.validated,
                batches,
                parts=parts,
                amp=self._settings.amp,
                observe=self._stop_if_signaled,
                device=self._state.device,
                visit=self._engine.visit,
            )

    def _finish(self) -> FitReport:
        """Evaluate the test split, once, and report."""
        state = self._state
        if not state.finished:
            state.test = self._evaluate_test()
            state.finished = True
            state.stopped = state.position.phase < len(self._engine.phases)
            self._save()
        report = FitReport(
            state.position,
            state.exits,
            state.best.record,
            state.test,
            self._compilation,
            state.stopped,
            state.best.whole,
        )
        if self._saver.folder is not None:
            self._saver.folder.write_json(RESULTS, asdict(report))
        for observer in self._observers:
            observer.on_end(report)
        return report

    def _evaluate_test(self) -> Exit | None:
        """The best exit, with its weights, on the test split; the last exit if there is none."""
        best, program = self._state.best, self._state.validated
        if best.record is None:
            found = self._evaluate(self._test, self._engine.trained_exits[-1:])
            return found[0] if found else None
        present = distinct_state(program)
        best.load_into(program)
        try:
            found = self._evaluate(self._test, (best.record.exit.part,))
        finally:
            load_weights(program, present, Path("memory"))
        return found[0] if found else None

    def _elapsed(self) -> float:
        """Seconds since the run began, without those between two processes."""
        return self._earlier + time.perf_counter() - self._began

    def _save(self) -> None:
        self._state.elapsed = self._elapsed()
        self._saver.save()
        if self._saver.folder is not None:
            for observer in self._observers:
                observer.on_checkpoint(self._saver.folder.path / CHECKPOINT, self._state.position)

    def _stop_if_signaled(self) -> None:
        if self._watch.received is not None:
            raise _SignalReceivedError

    def _interrupted(self) -> RunInterruptedError:
        """Save, and make the error that says so."""
        assert self._watch.received is not None
        signal, step = self._watch.received, self._state.position.steps
        self._save()
        kept = (
            "nothing is saved, since the trainer has no run folder"
            if self._saver.folder is None
            else f"everything is saved in {self._saver.folder.path}"
        )
        return RunInterruptedError(f"{signal.name} ended the run after step {step}; {kept}", signal)
