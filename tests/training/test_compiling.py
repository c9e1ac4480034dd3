"""Each part and its loss are one graph, compiled once in a run."""

import copy
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fxtransport.objectives import Objective, lap, plain, trgl
from fxtransport.training import (
    Compilation,
    EndToEnd,
    EpochReport,
    Observer,
    Parallel,
    Schedule,
    Sequential,
    Trainer,
    TrainerSettings,
)
from fxtransport.training.compiling import Compiled, own_code, own_sessions
from tests.training.runs import calm, program_of, train_stream, validation_stream

OBJECTIVES: dict[str, Objective] = {
    "plain": plain(),
    "lap": lap(lambda0=1.0, lambda_rate=0.5, update_every=1),
    "trgl": trgl(tau=0.5),
}


class Watch(Observer):
    def __init__(self) -> None:
        self.announced = 0
        self.compiled: list[Compilation] = []
        self.epochs: list[EpochReport] = []

    def on_compile(self, backend: str) -> None:
        self.announced += 1

    def on_compiled(self, compilation: Compilation) -> None:
        self.compiled.append(compilation)

    def on_epoch(self, epoch: EpochReport) -> None:
        self.epochs.append(epoch)


def trained(
    objective: Objective, schedule: Schedule, modules: int = 2, **settings: Any
) -> tuple[Trainer, Watch]:
    torch._dynamo.reset()
    program, watch = program_of(calm, modules), Watch()
    trainer = Trainer(
        program,
        copy.deepcopy(objective),
        schedule,
        settings=TrainerSettings(seed=0, **settings),
        observers=[watch],
    )
    with torch._dynamo.config.patch(error_on_recompile=True):
        trainer.fit(train_stream(), validation_stream())
    return trainer, watch


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_part_is_compiled_once(name: str) -> None:
    """Over epochs whose last batch is odd, and whose multipliers change; with the same numbers."""
    compiled, watch = trained(OBJECTIVES[name], Parallel(3), compile="aot_eager")
    plainly, _ = trained(OBJECTIVES[name], Parallel(3))
    assert [c.graphs for c in watch.compiled] == [2]
    assert [e.compilation.graphs for e in watch.epochs] == [2, 0, 0]
    assert watch.announced == 1
    expected = plainly.program.state_dict()
    for key, tensor in compiled.program.state_dict().items():
        torch.testing.assert_close(tensor, expected[key], msg=key)


def test_more_parts_than_torch_compiles_of_one_function() -> None:
    """With the code of one function, the ninth part would not be compiled."""
    torch._dynamo.reset()
    runs = [Compiled(lambda x, k=k: x + k, f"part_{k}", "eager") for k in range(10)]
    for k, run in enumerate(runs):
        assert torch.equal(run(torch.ones(3)), torch.ones(3) + k)
    assert [run.graphs for run in runs] == [1] * 10


def test_frozen_parts_are_compiled_once() -> None:
    _, watch = trained(OBJECTIVES["lap"], Sequential(2), compile="eager")
    assert [c.graphs for c in watch.compiled] == [1, 2], "the second phase runs the first part"
    assert watch.announced == 2


def test_pieces_and_low_precision() -> None:
    _, watch = trained(OBJECTIVES["lap"], EndToEnd(2), 1, compile="eager", amp="bf16")
    assert [c.graphs for c in watch.compiled] == [1]


def test_checkpointed_parts_are_one_graph() -> None:
    options = {"compile": "aot_eager", "checkpoint_activations": True}
    compiled, watch = trained(OBJECTIVES["lap"], Parallel(2), **options)
    plainly, _ = trained(OBJECTIVES["lap"], Parallel(2))
    assert [c.graphs for c in watch.compiled] == [2]
    expected = plainly.program.state_dict()
    for key, tensor in compiled.program.state_dict().items():
        torch.testing.assert_close(tensor, expected[key], msg=key)


def test_a_larger_batch_is_compiled_and_others_run() -> None:
    calls: list[int] = []

    def double(x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            calls.append(len(x))
        return 2 * x

    torch._dynamo.reset()
    run = Compiled(double, "double", "eager")
    for rows in (3, 3, 2, 5, 3, 5):
        assert torch.equal(run(torch.ones(rows)), torch.full((rows,), 2.0))
    assert run.graphs == 2
    assert calls == [2, 3]


def test_own_code() -> None:
    one, other = (own_code(len, name) for name in ("one", "other"))
    assert one([1]) == other([2]) == 1
    assert one.__code__ is not other.__code__
    assert one.__name__ == "one"


def test_compilers_are_in_sessions_of_their_own() -> None:
    from torch._inductor import cpp_builder

    command = [sys.executable, "-c", "import os; print(os.getsid(0))"]
    with own_sessions():
        started = cpp_builder.subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(started.stdout) != os.getsid(0)
    assert cpp_builder.subprocess is subprocess


@pytest.mark.slow
def test_a_signal_to_the_group_while_it_compiles(tmp_path: Path) -> None:
    """As Ctrl-C sends it: the step is completed and saved, and the run can go on."""
    code = """
        import os, signal, sys
        from fxtransport.errors import RunInterruptedError
        from fxtransport.objectives import plain
        from fxtransport.training import EndToEnd, Observer, Trainer, TrainerSettings
        from tests.training.runs import calm, program_of, train_stream
        from torch._inductor import cpp_builder

        run, told = cpp_builder.run_compile_cmd, []
        def announced(*args, **kwargs):
            if not told:
                told.append(1)
                print("compiles", flush=True)
            return run(*args, **kwargs)
        cpp_builder.run_compile_cmd = announced
        settings = TrainerSettings(seed=0, compile="inductor")
        program, folder = program_of(calm), sys.argv[1]
        trainer = Trainer(program, plain(), EndToEnd(2), settings=settings, run=folder)
        try:
            trainer.fit(train_stream())
        except RunInterruptedError as error:
            print(error)
            sys.exit(error.exit_code)
    """
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "compiles\n"
        time.sleep(0.5)  # so that the compiler runs
        os.killpg(process.pid, signal.SIGTERM)
        rest = process.stdout.read()
    assert process.returncode == 128 + signal.SIGTERM
    assert "SIGTERM ended the run after step 1; everything is saved" in rest
