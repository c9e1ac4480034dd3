"""Learning rates that fall from the last layers of a model to its first."""

from collections.abc import Mapping
from typing import Any

from timm.models import group_parameters
from timm.optim import param_groups_weight_decay  # type: ignore[attr-defined]
from torch import nn

from fxtransport.errors import UsageError
from fxtransport.program import Program
from fxtransport.training.settings import OptimizerSettings

OPTIONS = ("layer_decay", "layer_decay_min_scale")
"""Options of ``timm.optim.create_optimizer_v2`` that are meant for the whole model."""


def layer_scales(program: Program, settings: OptimizerSettings) -> Mapping[str, float] | None:
    """What the learning rate of each parameter of a program's model is multiplied by.

    The layers are those of timm's ``group_matcher`` of the whole model, however it is cut; that of
    layer i of n is ``layer_decay`` to the power of n - 1 - i (Bao et al., *BEiT*, ICLR 2022).
    Auxiliary heads train at the full rate.

    Args:
        program: The program.
        settings: With ``layer_decay`` among the options, or without.

    Returns:
        The factors by the names of parameters; None without ``layer_decay``.

    Raises:
        UsageError: the model does not say what its layers are, or the factor is not one.

    >>> import timm, torch
    >>> from fxtransport import transportify
    >>> model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=3)
    >>> program = transportify(model, torch.zeros(2, 3, 32, 32), verify=False)
    >>> scales = layer_scales(program, OptimizerSettings(options={"layer_decay": 0.5}))
    >>> [scales[f"{name}.weight"] for name in ("patch_embed.proj", "blocks.1.norm1", "head")]
    [0.125, 0.5, 1.0]
    """
    decay, least = (settings.options.get(name) for name in OPTIONS)
    if decay is None and least is not None:
        raise UsageError("layer_decay_min_scale is the least factor of layer_decay: set that, too")
    if decay is None:
        return None
    if not (isinstance(decay, int | float) and 0 < decay <= 1):
        raise UsageError(f"layer_decay is {decay!r}; it must be above 0 and at most 1")
    model = program._model[0]
    matcher: Any = getattr(model, "group_matcher", None)
    if matcher is None:
        raise UsageError(
            f"layer_decay needs a model of timm, and {type(model).__name__} has no group_matcher "
            "that says what its layers are; train without it, or give the model that method"
        )
    layers: dict[str, int] = group_parameters(model, matcher(coarse=False), reverse=True)
    last = max(layers.values())
    return {name: max(least or 0.0, decay ** (last - layer)) for name, layer in layers.items()}


def layered_groups(
    part: nn.Module, weight_decay: float, scales: Mapping[str, float]
) -> list[dict[str, Any]]:
    """The groups of a part's parameters by timm's rule of weight decay, one for each layer.

    Args:
        part: The part. If it has a method ``no_weight_decay``, it is called.
        weight_decay: Of all parameters but biases, norms and those that the method names.
        scales: What :func:`layer_scales` returned.
    """
    excluded: Any = getattr(part, "no_weight_decay", frozenset)
    names = {id(parameter): name for name, parameter in part.named_parameters()}
    found: list[dict[str, Any]] = []
    for group in param_groups_weight_decay(part, weight_decay, no_weight_decay_list=excluded()):
        by_scale: dict[float, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            by_scale.setdefault(scales.get(names[id(parameter)], 1.0), []).append(parameter)
        found += [{**group, "params": own, "lr_scale": s} for s, own in by_scale.items()]
    return found
