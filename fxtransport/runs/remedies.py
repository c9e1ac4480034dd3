"""What to do where the transport cost of a run does next to nothing."""

import inspect

from fxtransport.program import Program
from fxtransport.runs.recipe import Recipe

STRONGER = {
    "lap": "a smaller objective.lambda0",
    "fixed": "a larger objective.lambda0",
    "trgl": "a smaller objective.tau",
    "trgl-multipliers": "a smaller objective.lambda0",
}
"""By method, what gives the cost more weight."""
ZERO = {"zero_init_last": False, "zero_init_residual": False}
"""Arguments of constructors that let the last norm of each block begin with zero, with the value
by which it begins with one: timm's and torchvision's."""


def way_out(recipe: Recipe, program: Program) -> str:
    """What gives the transport cost a share in the gradient.

    Args:
        recipe: The run's.
        program: With the weights that training begins with.
    """
    stronger = STRONGER[recipe.config["objective.method"]]
    norms = zero_norms(program)
    if not norms:
        return f"give {stronger}"
    model = recipe.target(with_data=False).model
    taken = inspect.signature(type(model).__init__).parameters
    names = [f"{name}={value}" for name, value in ZERO.items() if name in taken]
    begin = f"the last norms of its blocks begin with zero ({norms[0]})"
    if not names:
        return f"{begin}; initialize them with one, or give {stronger}"
    return f"{begin}; set {names[0]} in model.options, or give {stronger}"


def zero_norms(program: Program) -> list[str]:
    """The names of scales, as norms have them, that are all zero."""
    return [
        name
        for name, value in program.named_parameters()
        if value.dim() == 1 and name.endswith("weight") and not value.detach().any()
    ]
