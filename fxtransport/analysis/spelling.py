"""A recording in which all that adds is spelled with additions, products and views.

``x - f`` is x + (-f) there, ``torch.lerp(x, f, w)`` is x + w·(f - x), and the sum over a stack of
tensors is their sum. So the rules of residuals know one spelling. Additions keep a reference
to the operations that the code ran.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from fxtransport.ir import Op, Recording, Term


@dataclass(frozen=True)
class Summand:
    """An operand of an addition in the recording that is spelled out."""

    op: int
    value: int
    term: Term
    """The same in the recording itself."""


@dataclass(frozen=True)
class SpelledOut:
    """A recording spelled out. Values of the recording itself keep their numbers."""

    recording: Recording
    sources: tuple[int, ...]
    """For each operation, the one of the recording itself that it is part of."""
    sums: Mapping[int, tuple[Summand, Summand]]
    """The operands of each addition of two tensors."""
    known: int
    """The number of values of the recording itself."""

    def is_plain(self, op: int) -> bool:
        """Whether an addition may be split: its terms are operands, or multiples of them."""
        return op in self.sums and all(s.term.factor is not None for s in self.sums[op])

    def computes_known(self, op: int) -> bool:
        """Whether an operation computes a value of the recording itself."""
        return self.recording.ops[op].outputs[0] < self.known


def spell_out(recording: Recording) -> SpelledOut:
    """The recording, spelled out."""
    writer = _Writer(recording)
    for i, op in enumerate(recording.ops):
        writer.begin(i)
        rule = _RULES.get(op.base_name)
        if rule is None or not rule(writer):
            writer.rename(op.base_name, op.inputs)
    return writer.finish()


class _Writer:
    """Writes the operations that stand for those of a recording."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.ops: list[Op] = []
        self.sources: list[int] = []
        self.shapes = list(recording.shapes)
        self._depends = list(recording.depends)
        self._sums: dict[int, tuple[Summand, Summand]] = {}
        self._starts: list[int] = []
        self.current = 0

    @property
    def op(self) -> Op:
        """The operation that what is written stands for."""
        return self.recording.ops[self.current]

    def begin(self, op: int) -> None:
        """What is written next stands for this operation."""
        self.current = op
        self._starts.append(len(self.ops))

    def write(self, name: str, inputs: Sequence[int], like: int) -> int:
        """An operation before it, whose result has the shape of another value."""
        value = len(self.shapes)
        self.shapes.append(self.shapes[like])
        self._depends.append(any(self._depends[v] for v in inputs))
        self.ops.append(Op(name, tuple(inputs), (value,), self.op.call))
        self.sources.append(self.current)
        return value

    def rename(self, name: str, inputs: Sequence[int]) -> None:
        """The operation itself, by another name and on other operands."""
        op, named = self.op, f"{name}_" if self.op.name.endswith("_") else name
        is_same = named == op.name and tuple(inputs) == op.inputs
        self.ops.append(op if is_same else replace(op, name=named, inputs=tuple(inputs)))
        self.sources.append(self.current)

    def add(self, summands: Sequence[Summand]) -> bool:
        """The operation itself, as the sum of some terms."""
        total = summands[0]
        for k, summand in enumerate(summands[1:], start=2):
            pair = (total.value, summand.value)
            if k == len(summands):
                self.rename("add", pair)
            else:
                self.write("add", pair, like=total.value)
            here = len(self.ops) - 1
            self._sums[here] = (replace(total, op=here), replace(summand, op=here))
            # a sum on the way is always split into its terms, so it is never a term itself
            total = Summand(here, self.ops[here].outputs[0], summand.term)
        return True

    def multiple(self, term: Term, number: float = 1.0) -> Summand:
        """A term with the factor it names, which the recording has multiplied by a number."""
        assert term.factor is not None
        number *= term.factor
        value = term.value
        if abs(number) != 1:
            value = self.write("mul", (value,), like=value)
        if number < 0:
            value = self.write("neg", (value,), like=value)
        return Summand(0, value, term)

    def computed(self, operand: int, value: int) -> Summand:
        """A term that the operation computes itself, of this operand and maybe others."""
        return Summand(0, value, Term(self.current, operand, self.op.inputs[operand], factor=None))

    def finish(self) -> SpelledOut:
        """All that was written."""
        producer: list[int | None] = [None] * len(self.shapes)
        uses: list[list[int]] = [[] for _ in self.shapes]
        for i, op in enumerate(self.ops):
            for value in op.outputs:
                producer[value] = i
            for value in op.inputs:
                uses[value].append(i)
        known = len(self.recording.shapes)
        storages = (*self.recording.storages, *(-v for v in range(known, len(self.shapes))))
        starts = [*self._starts, len(self.ops)]
        spelled = replace(
            self.recording,
            ops=tuple(self.ops),
            calls=tuple(replace(c, first=starts[c.first]) for c in self.recording.calls),
            producer=tuple(producer),
            shapes=tuple(self.shapes),
            storages=storages,
            depends=tuple(self._depends),
            uses=tuple(map(tuple, uses)),
        )
        return SpelledOut(spelled, tuple(self.sources), self._sums, known)


Rule = Callable[[_Writer], bool]
"""Writes what stands for an operation; False if the operation stands for itself."""


def _add(writer: _Writer) -> bool:
    """``x + f`` and ``x - f``; with a number for f, a view of x."""
    op, signs = writer.op, {"add": (1.0, 1.0), "sub": (1.0, -1.0), "rsub": (-1.0, 1.0)}
    if len(op.inputs) == 1 and op.base_name != "rsub":
        writer.rename("alias", op.inputs)
        return True
    if len(op.inputs) != 2:
        return False
    summands = []
    for k, (value, sign) in enumerate(zip(op.inputs, signs[op.base_name], strict=True)):
        # alpha multiplies what is added to the other, or subtracted from it
        scaled = k == (op.base_name != "rsub")
        number = op.keywords.get("alpha", 1) if scaled else 1
        term = Term(writer.current, k, value, sign, "alpha" if scaled else None)
        summands.append(writer.multiple(term, number))
    return writer.add(summands)


def _multiply(writer: _Writer) -> bool:
    """``x * 1`` is a view of x."""
    op = writer.op
    if len(op.inputs) == 1 and 1 in op.constants[:1]:
        writer.rename("alias", op.inputs)
        return True
    return False


def _interpolate(writer: _Writer) -> bool:
    """``torch.lerp(x, f, w)`` is x + w·(f - x)."""
    x, f, *weight = writer.op.inputs
    difference = writer.write("sub", (f, x), like=writer.op.outputs[0])
    scaled = writer.write("mul", (difference, *weight), like=difference)
    return writer.add([writer.multiple(Term(writer.current, 0, x)), writer.computed(1, scaled)])


def _add_product(writer: _Writer) -> bool:
    """``torch.addmm(x, a, b)`` is x + a·b; with a bias for x, it is one affine operation."""
    op, shapes = writer.op, writer.shapes
    x, *others = op.inputs
    beta = op.keywords.get("beta", 1)
    if shapes[x] != shapes[op.outputs[0]] or beta == 0:
        return False
    skip = writer.multiple(Term(writer.current, 0, x, keyword="beta"), beta)
    product = writer.write(_PRODUCTS[op.base_name], others, like=x)
    return writer.add([skip, writer.computed(_last_data(writer.recording, op), product)])


def _add_at_indices(writer: _Writer) -> bool:
    """``x.index_add(0, index, f)`` is x + f, where f is zero but for some elements."""
    op = writer.op
    x, *_, f = op.inputs
    if op.base_name == "index_put":
        f = op.inputs[-1]
        if True not in op.constants:
            return False
    if op.base_name == "scatter_reduce" and "sum" not in op.constants:
        return False
    placed = writer.write("scatter", (f,), like=x)
    skip = writer.multiple(Term(writer.current, 0, x))
    return writer.add([skip, writer.computed(len(op.inputs) - 1, placed)])


def _add_stacked(writer: _Writer) -> bool:
    """``torch.stack([x, f]).sum(0)`` is x + f; the mean is x/2 + f/2."""
    op, recording = writer.op, writer.recording
    found = _stack_of(recording, op.inputs[0])
    if found is None or len(op.inputs) != 1:
        return False
    stack, along = found
    dims = next((c for c in op.constants if isinstance(c, list | tuple)), ())
    rank = len(recording.shapes[op.inputs[0]])
    if len(dims) != 1 or dims[0] % rank != along or recording.ops[stack].call != op.call:
        return False
    terms = _stacked(recording, stack, along, op.outputs[0])
    if terms is None or len(terms) < 2:
        return False
    factor = 1 / len(terms) if op.base_name == "mean" else 1.0
    return writer.add([writer.multiple(replace(t, factor=factor)) for t in terms])


def _stack_of(recording: Recording, value: int) -> tuple[int, int] | None:
    """The operation that stacks or concatenates tensors, and along which dimension.

    A concatenation whose pieces a view takes apart, as in ``torch.cat([x, f]).view(2, -1)``, is
    a stack.
    """
    producer = recording.producer[value]
    if producer is None:
        return None
    op, shape = recording.ops[producer], recording.shapes[value]
    if op.base_name in ("stack", "cat"):
        return producer, _along(op) % len(shape)
    source = recording.producer[op.inputs[0]] if op.base_name in _RESHAPES else None
    if source is None or recording.ops[source].base_name != "cat":
        return None
    pieces = [recording.shapes[v] for v in recording.ops[source].inputs]
    along = _along(recording.ops[source]) % len(pieces[0])
    apart = (*pieces[0][:along], len(pieces), *pieces[0][along:])
    return (source, along) if shape == apart and len(set(pieces)) == 1 else None


def _along(op: Op) -> int:
    """The dimension of a stack or of a concatenation."""
    return next((c for c in op.constants if isinstance(c, int)), 0)


def _stacked(recording: Recording, stack: int, dim: int, total: int) -> list[Term] | None:
    """The tensors of a stack, or of a concatenation, in the shape of their sum."""
    op, shape = recording.ops[stack], recording.shapes[total]
    terms: list[Term] = []
    for k, value in enumerate(op.inputs):
        term, source = Term(stack, k, value), recording.producer[value]
        lifted = source is not None and recording.ops[source].base_name in _RESHAPES
        if op.base_name == "cat" and recording.shapes[value][dim] == 1 and lifted:
            assert source is not None, "what is lifted is a view"
            term = Term(source, 0, recording.ops[source].inputs[0])
        if recording.shapes[term.value] != shape:
            return None
        terms.append(term)
    return terms


def _last_data(recording: Recording, op: Op) -> int:
    """The last operand that depends on the model's input."""
    return max(k for k, v in enumerate(op.inputs) if recording.depends[v] or k == 1)


_PRODUCTS = {
    "addcmul": "mul",
    "addcdiv": "div",
    "addmm": "mm",
    "addmv": "mv",
    "addr": "mul",
    "baddbmm": "bmm",
    "addbmm": "bmm",
}

_RESHAPES = frozenset({"unsqueeze", "view", "_unsafe_view", "_reshape_alias", "expand"})

_RULES: dict[str, Rule] = {
    **dict.fromkeys(("add", "sub", "rsub"), _add),
    **dict.fromkeys(("mul", "div"), _multiply),
    **dict.fromkeys(_PRODUCTS, _add_product),
    **dict.fromkeys(("index_add", "scatter_add", "scatter_reduce", "index_put"), _add_at_indices),
    **dict.fromkeys(("sum", "mean"), _add_stacked),
    "lerp": _interpolate,
}
