"""What the skip of a residual addition may have gone through since the block's input."""

from fxtransport.analysis.dataflow import ACTIVATIONS, NORMS, VIEWS, Dataflow

_FILLED = frozenset("zeros_like ones_like full_like new_zeros new_ones new_full".split())


def shortcut_chain(flow: Dataflow, value: int) -> tuple[list[int], list[set[str]]]:
    """What a shortcut may start from, outwards, and the operations of each step.

    A shortcut is affine; it may start with one pre-activation (norm, then activation).
    """
    chain, names = [value], list[set[str]]()
    while (step := _shortcut_step(flow, chain[-1])) is not None:
        source, on_the_way = step
        chain.append(source)
        names.append(on_the_way)
        if on_the_way & ACTIVATIONS:
            break
    return chain, names


def _shortcut_step(flow: Dataflow, value: int) -> tuple[int, set[str]] | None:
    op = flow.op_of(value)
    if op is None:
        return None
    name, data = op.base_name, flow.data_inputs(op)
    if len(data) == 1 and flow.is_affine(op):
        return data[0], {name}
    if len(data) == 1 and name in ACTIVATIONS:
        norm = flow.op_of(data[0])
        if norm is not None and norm.base_name in NORMS:
            return norm.inputs[0], {name, norm.base_name}
    if name == "cat":
        return _common_source(flow, [v for v in data if not _is_filled(flow, v)])
    if not data and name in VIEWS:
        return op.inputs[0], {name}
    return None


def _is_filled(flow: Dataflow, value: int) -> bool:
    """Whether a tensor has only the size of what it is made like."""
    op = flow.op_of(flow.view_chain(value)[-1])
    return op is not None and op.base_name in _FILLED


def _common_source(flow: Dataflow, values: list[int]) -> tuple[int, set[str]] | None:
    """What all operands of a concatenation come from, each through a shortcut."""
    chains = [shortcut_chain(flow, v) for v in values]
    if not chains:
        return None
    for source in chains[0][0]:
        if all(source in chain for chain, _ in chains):
            steps = [n for chain, names in chains for n in names[: chain.index(source)]]
            return source, set[str]({"cat"}).union(*steps)
    return None
