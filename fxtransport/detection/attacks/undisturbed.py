"""Run an attack and leave the model and the process as they were."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from fxtransport.modes import eval_mode
from fxtransport.program import Program
from fxtransport.randomness import fork_rng


@contextmanager
def undisturbed(
    model: nn.Module, device: torch.device, seed: int, *, every_device: bool = False
) -> Iterator[None]:
    """Seed the generators, put the model into eval mode, and freeze its weights.

    At the end all is as it was: the generators of Python, NumPy and torch, the mode of each
    module, which parameters need gradients, their gradients, and the trace function.

    Args:
        model: The model that is attacked.
        device: Where the images are.
        seed: The seed of the generators.
        every_device: Keep the generators of all CUDA devices, which some packages seed.
    """
    modes = {module: module.training for module in model.modules()}
    needed = {parameter: parameter.requires_grad for parameter in model.parameters()}
    trace = sys.gettrace()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(fork_rng(seed))
        if every_device and torch.cuda.is_available():
            devices = range(torch.cuda.device_count())
            stack.enter_context(torch.random.fork_rng(devices))
        elif device.type != "cpu":
            stack.enter_context(torch.random.fork_rng([device], device_type=device.type))
        if device.type != "cpu":
            torch.get_device_module(device).manual_seed(seed >> 1)
        for program in [module for module in modes if isinstance(module, Program)]:
            # the modes of its model and its parts, too
            stack.enter_context(eval_mode(program))
        try:
            for module in modes:
                module.training = False
            for parameter in needed:
                parameter.requires_grad_(False)
            yield
        finally:
            for module, training in modes.items():
                module.training = training
            for parameter, needs in needed.items():
                parameter.requires_grad_(needs)
            if sys.gettrace() is not trace:
                sys.settrace(trace)
