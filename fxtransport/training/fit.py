"""A run from its present position to the end of its schedule."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from fxtransport.errors import CheckpointError, RunInterruptedError, UsageError
from fxtransport.randomness import deterministic_algorithms, isolated, seed_all
from fxtransport.training.batches import Batches, Epochs
from fxtransport.training.cache import cacheable, cached
from fxtransport.training.checkpoint import CHECKPOINT
from fxtransport.training.devices import moved, peak_memory, reset_peak_memory
from fxtransport.training.engine import Engine
from fxtransport.training.evaluate import evaluate
from fxtransport.training.interrupts import SignalWatch
from fxtransport.training.reports import EpochReport, Exit, FitReport, Observer, Plan
from fxtransport.training.saver import Saver
from fxtransport.training.steps import LossError
from fxtransport.weights import distinct_state, load_weights

RESULTS = "results.json"


class _SignalReceivedError(Exception):
    """A signal came, and nothing is half done."""


class Fit:
    """One call of ``Trainer.fit``.

    Args:
        engine: Makes the steps.
        saver: Keeps them.
        observers: Are told of them.
        train: Training batches.
        validation: Evaluated after every epoch.
        test: Evaluated at the end.

    Raises:
        UsageError: the data cannot be used so.
    """

    def __init__(
        self,
        engine: Engine,
        saver: Saver,
        observers: Sequence[Observer],
        train: Epochs,
        validation: Batches | None,
        test: Batches | None,
    ) -> None:
        if not len(train):
            raise UsageError("there is nothing to train on: an epoch has no batches")
        self._cacheable = cacheable(train) if engine.settings.cache_hidden else None
        if self._cacheable and saver.folder is None:
            raise UsageError("cache_hidden needs a run folder to keep hidden states in")
        self._engine = engine
        self._state = engine.state
        self._settings = engine.settings
        self._saver = saver
        self._observers = observers
        self._train = train
        self._validation = validation
        self._test = test
        self._watch = SignalWatch()

    def run(self) -> FitReport:
        """Train to the end.

        Raises:
            RunInterruptedError: a signal came.
            TrainingError: a loss is not a finite number.
            CheckpointError: the folder holds another run, or cannot be written.
        """
        with self._watch, deterministic_algorithms(self._settings.deterministic):
            try:
                return self._run()
            except LossError as error:
                raise self._saver.explain(error) from None

    def _run(self) -> FitReport:
        try:
            self._begin()
            while self._state.position.phase < len(self._engine.phases):
                self._run_phase()
            return self._finish()
        except _SignalReceivedError:
            raise self._interrupted() from None

    def _begin(self) -> None:
        restored = self._saver.begin()
        steps, before = len(self._train), self._state.steps_per_epoch
        if before not in (None, steps):
            raise CheckpointError(
                f"the run's epochs have {before} steps, and with this data they would have "
                f"{steps}; go on with the data and the batch size that it began with"
            )
        self._state.steps_per_epoch = steps
        if not restored and self._settings.seed is not None:
            seed_all(self._settings.seed)
        plan = Plan(self._engine.phases, len(self._train), self._state.position)
        for observer in self._observers:
            observer.on_start(plan)
        if not restored:
            # a folder that cannot be written is noticed before an epoch is lost
            self._save()

    def _run_phase(self) -> None:
        self._engine.enter()
        number, phase = self._state.position.phase, self._engine.phase
        for observer in self._observers:
            observer.on_phase(phase, self._state.position)
        hidden = self._hidden()
        while self._state.position.phase == number:
            self._run_epoch(self._train if hidden is None else hidden, is_hidden=hidden is not None)

    def _hidden(self) -> Epochs | None:
        """What the frozen modules return for the training batches, if that is cached."""
        frozen = self._engine.frozen
        if self._cacheable is None or not frozen:
            return None
        assert self._saver.folder is not None
        device, channels_last = self._state.device, self._settings.channels_last
        parts = self._state.program.parts[: self._engine.phase.first]
        with isolated(0):
            return cached(
                self._cacheable,
                lambda inputs: frozen(moved(inputs, device, channels_last)),
                parts,
                self._saver.folder,
                self._stop_if_told,
            )

    def _run_epoch(self, batches: Epochs, *, is_hidden: bool) -> None:
        state = self._state
        reset_peak_memory(state.device)
        started, samples = time.perf_counter(), 0
        for inputs, targets in batches.epoch(state.position.epochs, start=state.position.batch):
            step = self._engine.step(inputs, targets, hidden=is_hidden)
            state.position = replace(state.position, batch=state.position.batch + 1)
            samples += step.samples
            for observer in self._observers:
                observer.on_step(step, state.position)
            self._stop_if_told()
            if self._saver.minutes >= (self._settings.checkpoint_minutes or float("inf")):
                self._save()
        self._end_epoch(time.perf_counter() - started, samples)

    def _end_epoch(self, seconds: float, samples: int) -> None:
        """Validate, note, and save."""
        state, phase, number = self._state, self._engine.phase, self._state.position.phase
        peak = peak_memory(state.device)
        modules = state.meter.epoch(self._engine.learners)
        state.exits = self._evaluate(self._validation, self._engine.trained)
        state.best.offer(state.exits, state.position.epochs + 1, state.validated)
        self._engine.end_epoch()
        report = EpochReport(
            position=replace(state.position, phase=number),
            phase=phase,
            modules=modules,
            exits=state.exits,
            best=state.best.record,
            seconds=seconds,
            samples_per_second=samples / seconds,
            peak_memory=peak,
        )
        for observer in self._observers:
            observer.on_epoch(report)
        self._save()
        self._stop_if_told()

    def _evaluate(self, batches: Batches | None, modules: Sequence[int]) -> tuple[Exit, ...]:
        if batches is None:
            return ()
        # a loader may draw from the global generators
        with isolated(0):
            return evaluate(
                self._state.validated,
                batches,
                modules=modules,
                amp=self._settings.amp,
                observe=self._stop_if_told,
            )

    def _finish(self) -> FitReport:
        """Evaluate the test split, once, and report."""
        state = self._state
        if not state.finished:
            state.test = self._tested()
            state.finished = True
            self._save()
        report = FitReport(state.position, state.exits, state.best.record, state.test)
        if self._saver.folder is not None:
            self._saver.folder.write_json(RESULTS, asdict(report))
        for observer in self._observers:
            observer.on_end(report)
        return report

    def _tested(self) -> Exit | None:
        """The test split at the best exit, with its weights; without one, at the last."""
        best, program = self._state.best, self._state.validated
        if best.record is None:
            found = self._evaluate(self._test, self._engine.trained[-1:])
            return found[0] if found else None
        present = distinct_state(program)
        best.load_into(program)
        try:
            found = self._evaluate(self._test, (best.record.exit.module,))
        finally:
            load_weights(program, present, Path("memory"))
        return found[0] if found else None

    def _save(self) -> None:
        self._saver.save()
        if self._saver.folder is not None:
            for observer in self._observers:
                observer.on_checkpoint(self._saver.folder.path / CHECKPOINT, self._state.position)

    def _stop_if_told(self) -> None:
        if self._watch.received is not None:
            raise _SignalReceivedError

    def _interrupted(self) -> RunInterruptedError:
        """Save, and say so."""
        assert self._watch.received is not None
        signal, step = self._watch.received, self._state.position.steps
        self._save()
        kept = (
            "nothing was kept, for the trainer has no run folder"
            if self._saver.folder is None
            else f"all is saved in {self._saver.folder.path}"
        )
        return RunInterruptedError(f"{signal.name} ended the run after step {step}; {kept}", signal)
