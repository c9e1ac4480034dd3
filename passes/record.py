"""Record one forward pass, at full depth, on the meta device."""

from dataclasses import dataclass
from typing import ClassVar
from unittest import mock

import torch

from fxtransport.errors import TraceError
from fxtransport.ir import Recording
from fxtransport.passes.base import Pass
from fxtransport.process import device_of
from fxtransport.tracing.constants import readable
from fxtransport.tracing.contexts import without_autocast
from fxtransport.tracing.devices import PretendDevice
from fxtransport.tracing.error_context import LocateErrors, advise_on_meta
from fxtransport.tracing.gradients import needs_gradients, switch_where_differentiated
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
        try:
            return unit.with_facts(_recording(unit, differentiates=False))
        except TraceError as error:
            if not needs_gradients(error.__cause__):
                raise
        return unit.with_facts(_recording(unit, differentiates=True))


def _recording(unit: Unit, *, differentiates: bool) -> Recording:
    """A recording of the model's forward.

    Args:
        unit: The model.
        differentiates: Whether modules compute gradients in it.
    """
    recorder, shadow = Recorder(differentiates=differentiates), shadow_of(unit.model)
    switch = switch_where_differentiated(differentiates=differentiates)
    recorder.constants.hold(unit.model, shadow)
    recorder.mark_inputs(unit.example.tensors)
    advise = advise_on_meta(unit.model, unit.example)
    with (
        LocateErrors(unit.model, lambda: recorder.failed_path, advise),
        without_fast_paths(),
        without_autocast(),
        torch.no_grad(),
        mock.patch.object(torch._C, "_set_grad_enabled", switch),
        PretendDevice(device_of(unit.model), recorder.constants),
        readable(recorder.constants),
        module_calls(recorder, shadow),
        recorder,
    ):
        returned = unit.example.call(shadow, unit.example.inputs)
    return recorder.finish(returned)
