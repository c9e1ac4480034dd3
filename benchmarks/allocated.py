"""What torch's CPU allocator holds at most in a training step."""

import torch

from fxtransport.program import Program
from fxtransport.training import Trainer


def allocated_peak(
    program: Program, trainer: Trainer, images: torch.Tensor, targets: torch.Tensor
) -> int:
    """Bytes: what is there before a step, and what the step's events of the allocator add."""
    before = _held(program, trainer, images, targets)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        trainer.step(images, targets)
    found = profile.profiler.kineto_results.events()  # type: ignore[union-attr]
    events = [(event.start_ns(), event.nbytes()) for event in found if event.name() == "[memory]"]
    now = peak = 0
    for _, size in sorted(events, key=lambda event: event[0]):
        now += size
        peak = max(peak, now)
    return before + peak


def _held(program: Program, trainer: Trainer, *batch: torch.Tensor) -> int:
    tensors = [*program.parameters(), *program.buffers(), *batch]
    guide = trainer._engine.guide
    if guide is not None:
        tensors += [*guide.regularizer.parameters(), *guide.regularizer.start.values()]
        teacher = guide._teacher
        if teacher is not None:
            tensors += [*teacher.program.parameters(), *teacher.program.buffers()]
    for learner in trainer._engine.state.learners.values():
        for state in learner.optimizer.state.values():
            tensors += [v for v in state.values() if isinstance(v, torch.Tensor)]
    sizes = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
    return sum(sizes.values())
