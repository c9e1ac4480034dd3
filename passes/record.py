"""Record one forward pass, at full depth, on the meta device."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from fxtransport.ir import Recording
from fxtransport.passes.base import Pass
from fxtransport.tracing.error_context import locate_errors
from fxtransport.tracing.recorder import Recorder, module_calls
from fxtransport.tracing.shadow import shadow_of, without_fast_paths
from fxtransport.unit import Unit


@dataclass(frozen=True)
class Record(Pass):
    """Record every tensor operation of one forward pass on meta tensors, in eval mode."""

    name: ClassVar[str] = "record"
    provides: ClassVar[tuple[type, ...]] = (Recording,)

    def run(self, unit: Unit) -> Unit:
        """Add the recording.

        Raises:
            TraceError: the model's forward raises, or looks at the values of tensors.
        """
        recorder, shadow = Recorder(), shadow_of(unit.model)
        recorder.mark_inputs(unit.example.tensors)
        with (
            locate_errors(unit.model, lambda: recorder.failed_path),
            without_fast_paths(),
            torch.no_grad(),
            torch.device("meta"),
            module_calls(recorder, shadow),
            recorder,
        ):
            returned = unit.example.call(shadow, unit.example.inputs)
        return unit.with_facts(recorder.finish(returned))
