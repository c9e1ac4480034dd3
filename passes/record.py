"""Record one forward pass, at full depth, on the meta device."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from fxtransport.ir import Recording
from fxtransport.passes.base import Pass
from fxtransport.process import device_of
from fxtransport.tracing.constants import readable
from fxtransport.tracing.contexts import without_autocast
from fxtransport.tracing.devices import PretendDevice
from fxtransport.tracing.error_context import LocateErrors, advise_on_meta
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
        recorder.constants.hold(unit.model, shadow)
        recorder.mark_inputs(unit.example.tensors)
        advise = advise_on_meta(unit.model, unit.example)
        with (
            LocateErrors(unit.model, lambda: recorder.failed_path, advise),
            without_fast_paths(),
            without_autocast(),
            torch.no_grad(),
            PretendDevice(device_of(unit.model), recorder.constants),
            readable(recorder.constants),
            module_calls(recorder, shadow),
            recorder,
        ):
            returned = unit.example.call(shadow, unit.example.inputs)
        return unit.with_facts(recorder.finish(returned))
