"""Write text from the grammar: symbols are replaced until none is left."""

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from textwrap import indent

from tests.fuzzing.rules import EXPRESSIONS, RARE
from tests.fuzzing.statements import COMPOUND, OF_LAYOUT, SIMPLE
from tests.fuzzing.statements import RARE as RARE_STATEMENTS

SYMBOL = re.compile(r"<([a-z_]+)(?::(\w+))?>")
DEEPEST = 3
RARELY = 0.012
ATOMS = {
    "tensor": ("h", "h", "x", "h.tanh()"),
    "float": ("0.5", "2.0"),
    "int": ("2", "h.shape[0]"),
    "small": ("2",),
    "cond": ("self.training", "h.shape[0] > 2"),
}
"""What ends an expression that is deep enough."""


@dataclass(frozen=True)
class Layout:
    """How the tensors of a program are laid out."""

    shape: tuple[int, ...]
    channel: int
    others: tuple[int, ...]
    elsewhere: tuple[tuple[int, ...], ...]
    """Shapes without the batch that are tried, too."""

    @property
    def dims(self) -> int:
        """The dimensions, the batch included."""
        return len(self.shape) + 1

    def per_channel(self) -> str:
        """The shape of a value per channel, as text."""
        return str((8, *[1] * (self.dims - 1 - self.channel)))


LAYOUTS = (
    Layout((8,), 1, (0,), ()),
    Layout((6, 8), 2, (1, 1, 0), ((7, 8), (3, 8), (10, 8))),
    Layout((8, 6, 6), 1, (2, 3, 0), ((8, 7, 7), (8, 4, 9))),
)


@dataclass
class Scope:
    """A class that is written: what its constructor makes and what methods it has."""

    name: str
    made: dict[str, str] = field(default_factory=dict)
    """What the constructor assigns, by the attribute."""
    methods: dict[str, str] = field(default_factory=dict)
    changes: dict[str, str] = field(default_factory=dict)
    """How an attribute is changed from outside."""
    kinds: dict[str, list[str]] = field(default_factory=dict)
    """The attributes of each kind."""


@dataclass
class Writer:
    """Writes statements and expressions, from random choices.

    Args:
        random: The choices.
        layout: How tensors are laid out.
        edits: What is done to statements, by their numbers: ``drop`` leaves one out, ``unwrap``
            leaves only the first block in it. All others stay as they are.
    """

    random: random.Random
    layout: Layout
    edits: Mapping[int, str] = field(default_factory=dict)
    statements: int = 0
    """How many statements there are, those that are left out included."""
    names: int = 0
    makers: dict[str, Callable[["Writer", Scope], str]] = field(default_factory=dict)
    """What makes attributes and submodules, by symbol."""

    def choose(self, choices: tuple[str, ...]) -> str:
        """One of several, each as likely."""
        return choices[self.random.randrange(len(choices))]

    def chance(self, probability: float) -> bool:
        """True as often as said."""
        return self.random.random() < probability

    def name(self, prefix: str) -> str:
        """A name that is not used yet."""
        self.names += 1
        return f"{prefix}{self.names}"

    def expression(self, symbol: str, scope: Scope, depth: int = 0) -> str:
        """An expression for a symbol."""
        if symbol in self.makers:
            return self.makers[symbol](self, scope)
        if symbol in RARE and depth < DEEPEST and self.chance(RARELY):
            text = self.choose(RARE[symbol])
        elif depth >= DEEPEST or self.chance(0.2 * depth):
            text = self.choose(ATOMS[symbol])
        else:
            text = self.choose(EXPRESSIONS[symbol])
        written = self.fill(text, scope, depth + 1)
        return f"({written})" if depth and " " in written else written

    def fill(self, text: str, scope: Scope, depth: int) -> str:
        """A text with its symbols replaced; blocks stay for :meth:`statement`."""
        other = str(self.layout.others[self.random.randrange(len(self.layout.others))])
        fresh: dict[str, str] = {}

        def replacement(match: re.Match[str]) -> str:
            symbol, used = match.groups()
            if symbol == "block":
                return match.group()
            if symbol == "use":
                return str(used)
            if symbol in ("c", "o"):
                return str(self.layout.channel) if symbol == "c" else other
            return self.expression(symbol, scope, depth)

        def renamed(match: re.Match[str]) -> str:
            name = match.group(1)
            return fresh.setdefault(name, self.name(name))

        # names first: what is filled in has its own
        return SYMBOL.sub(replacement, re.sub(r"\$(\w+)", renamed, text))

    def statement(self, scope: Scope, depth: int) -> str:
        """A statement, or nothing if it is left out."""
        number = self.statements
        self.statements += 1
        compound = depth < DEEPEST and self.chance(0.35)
        simple = OF_LAYOUT[self.layout.dims] if self.chance(0.15) else SIMPLE
        simple = RARE_STATEMENTS if self.chance(2 * RARELY) else simple
        text = self.fill(self.choose(COMPOUND if compound else simple), scope, 1)
        lines, blocks = [], [""]
        for line in text.splitlines():
            if line.strip() == "<block>":
                blocks.append(self.block(scope, depth + 1))
                lines.append(indent(blocks[-1], line[: -len("<block>")]))
            else:
                lines.append(line)
        match self.edits.get(number):
            case "drop":
                return ""
            case "unwrap":
                return "\n".join(blocks[:2]).strip()
        return "\n".join(lines)

    def block(self, scope: Scope, depth: int, least: int = 1, most: int = 2) -> str:
        """Several statements; ``pass`` if all of them are left out."""
        count = self.random.randint(least, most)
        found = [self.statement(scope, depth) for _ in range(count)]
        return "\n".join(text for text in found if text) or "pass"
