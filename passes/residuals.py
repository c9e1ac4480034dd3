"""Find out which additions of a recording are residual, by dataflow alone.

An addition is residual when one operand is the block's input, or that input through a
shortcut, and the other depends on it through something learned. What a block's input is
follows from the graph: the value that dominates the branch, an argument of the module that
adds, or the result of the residual addition before. Class names play no part.
"""

from dataclasses import dataclass
from typing import ClassVar

from fxtransport.analysis.dataflow import ACTIVATIONS, LAYER_NORMS, NORMS, VIEWS, Dataflow
from fxtransport.analysis.shortcuts import shortcut_chain
from fxtransport.analysis.spelling import SpelledOut, Summand, spell_out
from fxtransport.analysis.weighing import only_measured, only_weighs
from fxtransport.ir import Addition, Kind, RecordedAdditions, Recording
from fxtransport.passes.base import Pass
from fxtransport.unit import Unit


@dataclass(frozen=True)
class FindResiduals(Pass):
    """Find the residual additions of the recording, and of what kind each is."""

    name: ClassVar[str] = "residuals"
    requires: ClassVar[tuple[type, ...]] = (Recording,)
    provides: ClassVar[tuple[type, ...]] = (RecordedAdditions,)

    def run(self, unit: Unit) -> Unit:
        """Add the residual additions."""
        return unit.with_facts(RecordedAdditions(find_additions(unit.fact(Recording))))


def find_additions(recording: Recording) -> tuple[Addition, ...]:
    """The residual additions of a recording, in execution order."""
    spelled = spell_out(recording)
    flow = Dataflow(spelled.recording)
    found: dict[int, Addition] = {}
    streams: set[int] = set()
    for i in spelled.sums:
        if not all(spelled.recording.depends[v] for v in spelled.recording.ops[i].outputs):
            continue  # positions, say, which are the same for every input
        if not spelled.computes_known(i):
            continue
        terms = sum_terms(spelled, i)
        match = _classify(flow, i, terms, streams)
        if match is None or _is_error(flow, i, terms):
            continue
        addition = _addition(spelled, i, terms, match)
        for inner in {t.op for t in terms} - {i}:
            # x + attn(x) + mlp(x) is one residual, not two
            if inner in found and found[inner].skip_root == addition.skip_root:
                del found[inner]
        found[i] = addition
        streams.update(flow.recording.ops[i].outputs)
    return tuple(found[i] for i in sorted(found))


def sum_terms(spelled: SpelledOut, op: int) -> list[Summand]:
    """The operands of a sum.

    A sum that only one sum of the same module call reads is split into its terms.
    """
    recording = spelled.recording
    terms: list[Summand] = []
    for summand in spelled.sums[op]:
        inner = recording.producer[summand.value]
        if (
            inner is not None
            and spelled.is_plain(inner)
            and recording.ops[inner].call == recording.ops[op].call
            and len(recording.uses[summand.value]) == 1
            and recording.shapes[summand.value] == recording.shapes[recording.ops[op].outputs[0]]
        ):
            terms.extend(sum_terms(spelled, inner))
        else:
            terms.append(summand)
    return terms


@dataclass(frozen=True)
class _Candidate:
    """A sum, with one of its terms taken for the skip."""

    flow: Dataflow
    op: int
    skip: Summand
    others: tuple[Summand, ...]
    streams: frozenset[int] | set[int]
    """The results of the residual additions before."""


def _classify(flow: Dataflow, op: int, terms: list[Summand], streams: set[int]) -> "_Found | None":
    shape = flow.recording.shapes[flow.recording.ops[op].outputs[0]]
    full = [t for t in terms if flow.recording.shapes[t.value] == shape]
    for find in (_identity, _shortcut, _inner):
        for skip in full:
            if skip.term.factor is None:
                continue  # the code holds no such value
            others = tuple(t for t in terms if t is not skip)
            match = find(_Candidate(flow, op, skip, others, streams))
            if match is not None:
                weighs = only_weighs(flow, flow.recording.ops[op].outputs[0])
                return skip, Kind.INNER if weighs else match[0], match[1]
    return None


def _is_error(flow: Dataflow, op: int, terms: list[Summand]) -> bool:
    """Whether a sum is a difference of which only the size matters, as in a loss."""
    differs = any(t.term.factor is not None and t.term.factor < 0 for t in terms)
    return differs and only_measured(flow, flow.recording.ops[op].outputs[0])


def _addition(spelled: SpelledOut, op: int, terms: list[Summand], found: "_Found") -> Addition:
    """What was found, by the operations and values of the recording itself."""
    skip, kind, root = found
    recording = spelled.recording
    others = tuple(t.term for t in terms if t is not skip)
    shape = recording.shapes[recording.ops[op].outputs[0]]
    source = spelled.sources[op]
    return Addition(recording.path(op), kind, source, skip.term, others, root, shape)


_Found = tuple[Summand, Kind, int]
"""The skip, the kind, and the value that the skip is a view of or that its shortcut starts from."""

NEGATIONS = frozenset({"neg", "rsub"})

Match = tuple[Kind, int] | None
"""The kind, and the value that the skip is a view of or that its shortcut starts from."""


def _identity(c: _Candidate) -> Match:
    """The skip is the block's input itself, a view of it, or such views in one tensor."""
    chain = c.flow.view_chain(c.skip.value)
    whole = _is_start(c, chain)
    op = c.flow.op_of(chain[-1])
    if whole is None and op is not None and op.base_name == "cat":
        # TimeSformer joins the class token with tokens that have just been added to
        whole = all(_is_start(c, c.flow.view_chain(piece)) for piece in op.inputs)
    return (Kind.IDENTITY, chain[-1]) if whole else None


def _is_start(c: _Candidate, chain: list[int]) -> bool | None:
    """Whether the branch starts from what a chain of views is of; None if it is not reached."""
    flow = c.flow
    for call in _extents(c):
        roots = {t.value: _reaches(flow, chain, t.value, call) for t in c.others}
        branch = {value: root for value, root in roots.items() if root is not None}
        if not branch:
            continue
        return all(
            _is_learned(flow, root, value, call)
            and _is_block_input(c, chain, root, value, call)
            and not _is_gate(flow, c.skip.value, value)
            for value, root in branch.items()
        )
    return None


def _shortcut(c: _Candidate) -> Match:
    """The skip is the block's input through a batch norm, a projection or a pooling.

    f(x) - x is the displacement of a block, or an error, and no block of its own.
    """
    flow = c.flow
    chain, names = shortcut_chain(flow, c.skip.value)
    branch = [t.value for t in c.others]
    for call in _extents(c):
        sources = [s for v in branch if (s := _reaches(flow, chain, v, call)) is not None]
        if not sources:
            continue
        source = min(sources, key=chain.index)
        on_the_way = set().union(*names[: chain.index(source)])
        if on_the_way <= VIEWS or on_the_way & NEGATIONS:
            return None
        if not any(_is_learned(flow, source, v, call) for v in branch):
            return None
        if on_the_way <= VIEWS | NORMS:
            return Kind.IDENTITY_BN, source
        if on_the_way <= VIEWS | NORMS | ACTIVATIONS:
            # what is only activated is not a shortcut, but a tensor inside the branch (Res2Net)
            return None
        # a sum of parallel linear branches is not residual
        if not any(_is_nonlinear(flow, source, v, call) for v in branch):
            return None
        if not any(_is_block_input(c, flow.view_chain(source), source, v, call) for v in branch):
            return None
        return Kind.PROJECTION, source
    return None


def _inner(c: _Candidate) -> Match:
    """The skip is an internal tensor of a branch, or another slice of what it starts from."""
    recording = c.flow.recording
    chain = c.flow.view_chain(c.skip.value)
    floor = recording.calls[recording.ops[c.op].call].first
    for term in c.others:
        reach = c.flow.back(term.value, floor)
        root = next((v for v in chain if v in reach.values and recording.depends[v]), None)
        if root is None or term.value in chain:
            continue
        if any(c.flow.is_learned(recording.ops[i]) for i in c.flow.between(root, reach)):
            return Kind.INNER, root
    return None


def _extents(c: _Candidate) -> list[int]:
    """The module calls within which the branch must start.

    That is the one that adds, and, where it only adds what it is given, its caller. A module
    that computes too may be given the skip together with what its caller has made of it.
    """
    flow, calls = c.flow, c.flow.recording.calls
    values = [t.value for t in (c.skip, *c.others)]
    given = _scaled_chain(flow, c.skip.value)
    extents = []
    for call in flow.callers(flow.recording.ops[c.op].call):
        extents.append(call)
        first, parent = calls[call].first, calls[call].parent
        if any(flow.position(flow.view_chain(v)[-1]) >= first for v in values):
            if parent is not None and calls[call].inputs.intersection(given):
                extents.append(parent)
            break
    return extents


def _scaled_chain(flow: Dataflow, value: int) -> list[int]:
    """What a value is a view or a multiple of, outwards."""
    chain = flow.view_chain(value)
    op = flow.op_of(chain[-1])
    if op is None or op.base_name not in ("mul", "div"):
        return chain
    data = flow.data_inputs(op)
    return chain + _scaled_chain(flow, data[0]) if len(data) == 1 else chain


def _reaches(flow: Dataflow, chain: list[int], value: int, call: int) -> int | None:
    """The first of a chain of views that a value depends on, within a module call.

    A dependence through a slice that shares nothing with the chain's own does not count.
    """
    floor = flow.recording.calls[call].first
    reach = flow.back(value, floor)
    for k, root in enumerate(chain):
        if root not in reach.values or root == value:
            continue
        if k == 0:
            return root
        own = chain[k - 1]
        readers = [i for i in flow.recording.uses[root] if i in reach.ops]
        for i in readers:
            outputs = [v for v in flow.recording.ops[i].outputs if v in reach.values]
            if any(v != own and not flow.disjoint(v, own) for v in outputs):
                return root
    return None


def _is_learned(flow: Dataflow, root: int, value: int, call: int) -> bool:
    reach = flow.back(value, flow.recording.calls[call].first, stop=root)
    return any(flow.is_learned(flow.recording.ops[i]) for i in flow.between(root, reach))


def _is_nonlinear(flow: Dataflow, root: int, value: int, call: int) -> bool:
    reach = flow.back(value, flow.recording.calls[call].first, stop=root)
    return any(not flow.is_affine(flow.recording.ops[i]) for i in flow.between(root, reach))


def _is_gate(flow: Dataflow, skip: int, value: int) -> bool:
    """Whether a branch is a scaled copy of the skip, x + x·g(x), as in GRN."""
    while (op := flow.op_of(value)) is not None:
        data = flow.data_inputs(op)
        if op.base_name == "mul" and skip in op.inputs:
            return True
        if op.base_name not in {"mul", "add", "addcmul", "neg", "alias"} or len(data) != 1:
            return False
        value = data[0]
    return False


def _is_block_input(c: _Candidate, chain: list[int], root: int, value: int, call: int) -> bool:
    """Whether a skip is the block's input.

    It is if it dominates the branch, or is an argument of the module that adds, or the
    result of the residual addition before, normalized or not. Cross-attention after such a
    norm starts from another stream, too.
    """
    flow = c.flow
    arguments = flow.recording.calls[call].inputs
    if any(v in arguments or v in c.streams for v in chain):
        return True
    position = flow.position(root)
    reach = flow.back(value, stop=root)
    if _is_normed_stream(c, chain[-1]) and not reach.values & _normed(flow, chain[-1]):
        return True
    return all(
        v == root or flow.position(v) >= position or not flow.recording.depends[v]
        for v in reach.values
    )


def _normed(flow: Dataflow, value: int) -> set[int]:
    """What a normalization is given, if it makes this value."""
    op = flow.op_of(value)
    if op is None or op.base_name not in NORMS | LAYER_NORMS:
        return set()
    return set(flow.view_chain(op.inputs[0]))


def _is_normed_stream(c: _Candidate, value: int) -> bool:
    return bool(_normed(c.flow, value) & c.streams)
