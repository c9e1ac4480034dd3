"""Each part and its loss are one graph, compiled once in a run."""

import copy
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd

from fxtransport.errors import UsageError
from fxtransport.objectives import Objective, lap, plain, trgl
from fxtransport.training import (
    Compilation,
    EndToEnd,
    EpochReport,
    Observer,
    Parallel,
    Position,
    Schedule,
    Sequential,
    StepReport,
    Trainer,
    TrainerSettings,
    compiling,
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
        self.steps: list[StepReport] = []

    def on_step(self, step: StepReport, position: Position) -> None:
        self.steps.append(step)

    def on_compile(self, backend: str) -> None:
        self.announced += 1

    def on_compiled(self, compilation: Compilation) -> None:
        self.compiled.append(compilation)

    def on_epoch(self, epoch: EpochReport) -> None:
        self.epochs.append(epoch)


def trained(
    objective: Objective,
    schedule: Schedule,
    modules: int = 2,
    run: Path | None = None,
    **settings: Any,
) -> tuple[Trainer, Watch]:
    torch._dynamo.reset()
    program, watch = program_of(calm, modules), Watch()
    trainer = Trainer(
        program,
        copy.deepcopy(objective),
        schedule,
        settings=TrainerSettings(seed=0, **settings),
        observers=[watch],
        run=run,
    )
    # the first of several pieces, which advances the multiplier, has a graph of its own
    again = "accumulate" in settings
    with torch._dynamo.config.patch(error_on_recompile=not again):
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


@pytest.mark.parametrize(
    "blocks", [{"checkpoint_activations": True}, {"checkpoint_blocks": (1, 1)}]
)
def test_checkpointed_parts_are_one_graph(blocks: dict[str, Any]) -> None:
    options = {"compile": "aot_eager", **blocks}
    compiled, watch = trained(OBJECTIVES["lap"], Parallel(2), **options)
    plainly, _ = trained(OBJECTIVES["lap"], Parallel(2))
    assert [c.graphs for c in watch.compiled] == [2]
    expected = plainly.program.state_dict()
    for key, tensor in compiled.program.state_dict().items():
        torch.testing.assert_close(tensor, expected[key], msg=key)


class Replayed:
    """In the place of CUDA graphs: what they return is overwritten when the next step begins."""

    def __init__(self) -> None:
        self.steps = 0
        self._returned: list[Tensor] = []

    def backend(self, _: str) -> Callable[..., Any]:
        return self._compile

    def begin_step(self) -> None:
        self.steps += 1
        while self._returned:
            tensor = self._returned.pop()
            tensor.fill_(float("nan") if tensor.is_floating_point() else -1)

    def _compile(self, graph: torch.fx.GraphModule, inputs: Any, config_patches: Any) -> Any:
        assert config_patches == {"triton.cudagraphs": True}
        compile_graph: Any = aot_autograd(fw_compiler=self._replay)
        return compile_graph(graph, inputs)

    def _replay(self, graph: torch.fx.GraphModule, _: Any) -> Any:
        def run(*args: Any) -> list[Any]:
            given = {x.untyped_storage().data_ptr() for x in args if isinstance(x, Tensor)}
            return [self._own(value, given) for value in graph(*args)]

        return make_boxed_func(run)

    def _own(self, value: Any, given: set[int]) -> Any:
        if not isinstance(value, Tensor) or value.untyped_storage().data_ptr() in given:
            return value
        copied = value.clone()
        self._returned.append(copied.data)
        return copied


GRAPHS: dict[str, tuple[Schedule, dict[str, Any], int]] = {
    "in parallel": (Parallel(2), {"grad_clip": 0.1, "ema": 0.9}, 0),
    "in turn, cached, in pieces": (Sequential(1), {"cache_hidden": True, "accumulate": 2}, 3),
}
"""Schedules, settings, and how many batches are computed ahead of steps."""


@pytest.mark.parametrize("name", GRAPHS)
def test_nothing_that_outlives_a_step_is_memory_of_cuda_graphs(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    schedule, settings, ahead = GRAPHS[name]
    plainly, expected = trained(OBJECTIVES["lap"], schedule, run=tmp_path / "plain", **settings)
    replayed = Replayed()
    monkeypatch.setattr(compiling, "_backend", replayed.backend)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", replayed.begin_step)
    monkeypatch.setattr("fxtransport.training.trainer.check_graphs", lambda *_: None)
    options = {**settings, "compile": "inductor", "cuda_graphs": True}
    trainer, watch = trained(OBJECTIVES["lap"], schedule, run=tmp_path / "replayed", **options)
    assert trainer.graphs > 0
    assert replayed.steps == trainer.position.steps + ahead
    for key, tensor in plainly.program.state_dict().items():
        torch.testing.assert_close(trainer.program.state_dict()[key], tensor, msg=key)
    for found, other in zip(watch.steps, expected.steps, strict=True):
        for part, same in zip(found.parts, other.parts, strict=True):
            for name in ("loss", "classification", "transport", "multiplier", "accuracy"):
                torch.testing.assert_close(getattr(part, name), getattr(same, name), msg=name)


def test_cuda_graphs_need_a_cuda_device() -> None:
    settings = TrainerSettings(compile="inductor", cuda_graphs=True)
    with pytest.raises(UsageError, match="need a CUDA device, and this run trains on cpu"):
        Trainer(program_of(calm), plain(), Parallel(1), settings=settings)


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
