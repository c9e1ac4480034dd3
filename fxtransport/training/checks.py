"""What must hold before a program can be trained by a schedule."""

from fxtransport.errors import UsageError
from fxtransport.program import Program
from fxtransport.training.schedules import Phase

_SHOWN = 3


def check_trainable(program: Program, phases: tuple[Phase, ...]) -> None:
    """Refuse a program that a schedule would train wrongly.

    Args:
        program: What is to be trained.
        phases: The schedule's.

    Raises:
        UsageError: a module has nothing to train or no head; or two modules that train apart
            share parameters or buffers.
    """
    for phase in phases:
        parts = (program.whole,) if phase.modules is None else program.parts
        chosen = phase.modules or (0,)
        for part in (parts[k] for k in chosen):
            where = f"module {part.index}" if phase.modules else "the program"
            if not any(p.requires_grad for p in part.parameters()):
                raise UsageError(f"{where} has no parameter that requires a gradient")
            if not part.is_last and part.auxiliary_head is None:
                raise UsageError(
                    f"{where} has no auxiliary head to train it by; compile the program with "
                    "head='auto' (--head auto), or train it end to end"
                )
    if any(phase.modules is not None for phase in phases):
        _refuse_shared(program)


def _refuse_shared(program: Program) -> None:
    owners: dict[int, list[int]] = {}
    names: dict[int, str] = {}
    for part in program.parts:
        for name, tensor in [*part.named_parameters(), *part.named_buffers()]:
            names.setdefault(id(tensor), name)
            owners.setdefault(id(tensor), []).append(part.index)
    shared = [
        f"{names[key]} (modules {', '.join(map(str, modules))})"
        for key, modules in owners.items()
        if len(modules) > 1
    ]
    if shared:
        more = f" and {len(shared) - _SHOWN} more" if len(shared) > _SHOWN else ""
        raise UsageError(
            "modules that train apart must not share parameters or buffers, and these do: "
            f"{', '.join(shared[:_SHOWN])}{more}; cut the program elsewhere (cuts=…), or train "
            "it end to end"
        )
