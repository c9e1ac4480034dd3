"""Write whole programs: blocks with a residual addition, and a root that runs them."""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import indent

from hypothesis import strategies as st

from tests.fuzzing.attributes import MAKERS, layer
from tests.fuzzing.library import DEFINITIONS, IMPORTS, USES
from tests.fuzzing.roots import (
    CALLS,
    ENDS,
    HEADS,
    INPUTS,
    LOOPS,
    OUTPUTS,
    RETURNS,
    SIGNATURES,
    Loop,
)
from tests.fuzzing.writer import LAYOUTS, Scope, Writer


@dataclass(frozen=True)
class Written:
    """A program of the fuzzer."""

    source: str
    statements: int
    """How many statements it has, those that are left out included."""


def write(choices: random.Random, name: str, edits: Mapping[int, str] | None = None) -> Written:
    """Write a program.

    Args:
        choices: Where it comes from.
        name: What it is called.
        edits: What is done to statements, by their numbers; see :class:`Writer`.
    """
    layout = LAYOUTS[choices.randrange(len(LAYOUTS))]
    writer = Writer(choices, layout, edits or {}, makers=MAKERS)
    classes, root = _classes(writer)
    body = "\n\n".join([*classes, root.text])
    text = "\n\n".join(
        [
            _definitions(body),
            body,
            _settings(writer, [*root.scopes], 2 if INPUTS["two"][1] in body else 1),
        ]
    )
    return Written(f'"""{name}."""\n\n{IMPORTS}\n\n{text}', writer.statements)


def write_seed(seed: int, edits: Mapping[int, str] | None = None) -> Written:
    """The program of a seed."""
    return write(random.Random(seed), f"Program {seed} of the fuzzer", edits)


def programs() -> st.SearchStrategy[str]:
    """Programs, as a strategy of hypothesis."""
    return st.randoms(use_true_random=False).map(lambda r: write(r, "A program").source)


CHILD = """\
class {parent}Child({parent}):
    rate = 0.5

    def forward(self, x, *args, **kwargs):
        return super().forward(x * self.rate, *args, **kwargs)
"""
TRAIN = """\
def train(self, mode=True):
    super().train(mode)
    for module in self.children():
        if isinstance(module, nn.BatchNorm2d | nn.Dropout):
            module.training = False
    return self"""
"""Keeps norms and dropout in eval mode."""


@dataclass(frozen=True)
class _Root:
    text: str
    scopes: tuple[Scope, ...]


def _classes(writer: Writer) -> tuple[list[str], _Root]:
    """The classes of the blocks, and the root."""
    interface = writer.choose(tuple(SIGNATURES)) if writer.chance(0.4) else "plain"
    returned = writer.choose(tuple(RETURNS)) if writer.chance(0.3) else "tensor"
    scopes, texts = [], []
    for k in range(writer.random.randint(1, 2)):
        scope = Scope(f"Block{k}")
        texts.append(_block(writer, scope, interface, returned))
        scopes.append(scope)
    names = [scope.name for scope in scopes]
    if writer.chance(0.1):
        texts.append(CHILD.format(parent=names[0]))
        names.append(f"{names[0]}Child")
    root = Scope("Root")
    text = _root(writer, root, names, CALLS[interface], RETURNS[returned][1])
    return texts, _Root(text, (*scopes, root))


def _block(writer: Writer, scope: Scope, interface: str, returned: str) -> str:
    arguments, first = SIGNATURES[interface]
    lines = ["h = x"]
    if first:
        lines.append(writer.fill(first, scope, 1))
    lines.append(writer.block(scope, 0, 1, 3))
    lines.append(writer.fill(writer.choose(ENDS if writer.chance(0.5) else ENDS[:1]), scope, 2))
    lines.append(f"return {RETURNS[returned][0]}")
    return _class(writer, scope, arguments, "\n".join(lines))


def _root(writer: Writer, scope: Scope, blocks: list[str], call: str, unpack: str) -> str:
    simple = call == CALLS["plain"] and not unpack
    loops = [loop for loop in LOOPS if simple or not loop.plain]
    loop: Loop = loops[writer.random.randrange(len(loops))]
    count = writer.random.randint(2, 4)
    made = [f"{blocks[writer.random.randrange(len(blocks))]}()" for _ in range(count)]
    stem = "nn.Conv2d(8, 8, 1)" if writer.layout.dims == 4 else "nn.Linear(8, 8)"
    scope.made["stem"] = f"self.stem = {stem}"
    scope.made["blocks"] = loop.container(made)
    scope.made["head"] = "self.head = nn.Linear(8, 3)"
    if writer.chance(0.1):
        scope.made["again"] = loop.again()
    body = loop.text.replace("CALL", f"{call}{unpack}".replace("BLOCK", "$b"))
    head = writer.choose(HEADS[writer.layout.dims])
    given = writer.choose(tuple(INPUTS)) if writer.chance(0.2) else "one"
    arguments, first = INPUTS[given]
    lines = ["x = self.stem(x)", "h = x", *filter(None, [first])]
    if writer.chance(0.3):
        lines.append(writer.block(scope, 1, 1, 1))
    lines.append(writer.fill(body, scope, 2))
    if writer.chance(0.3):
        lines.append(writer.block(scope, 1, 1, 1))
    lines.append(writer.fill(head, scope, 2))
    output = writer.choose(OUTPUTS) if writer.chance(0.3) else OUTPUTS[0]
    lines.append(f"return {writer.fill(output, scope, 2)}")
    return _class(writer, scope, arguments, "\n".join(lines))


def _class(writer: Writer, scope: Scope, arguments: str, body: str) -> str:
    """The text of a class; only what is used is made."""
    forward = f"def forward(self, x{arguments}):\n{indent(body, '    ')}"
    methods = {
        n: t for n, t in scope.methods.items() if t and used(n, forward, *scope.methods.values())
    }
    frozen = [TRAIN] if writer.chance(0.02) else []
    texts = "\n\n".join([forward, *methods.values(), *frozen])
    always = {"stem", "blocks", "head", "again"}
    made = [line for n, line in scope.made.items() if n in always or used(n, texts)]
    for name in [n for n in scope.changes if not used(n, texts)]:
        del scope.changes[name]
    if not any("nn." in line for line in made):
        # so that every block has parameters
        made.append(f"self.extra_layer = {layer(writer)}")
    hook = ["self.register_forward_pre_hook(shifted)"] if writer.chance(0.004) else []
    init = "def __init__(self):\n" + indent("\n".join(["super().__init__()", *made, *hook]), "    ")
    return f"class {scope.name}(nn.Module):\n" + indent(f"{init}\n\n{texts}\n", "    ")


def used(name: str, *texts: str) -> bool:
    """Whether a name occurs; that of a twin without its number, too."""
    names = {name, name[:-1]} if name.startswith("twin") else {name}
    return any(re.search(rf"\b{n}(\b|{{)", text) for n in names for text in texts)


def _definitions(body: str) -> str:
    """The definitions that a program uses."""
    found: dict[str, str] = {}

    def add(name: str) -> None:
        for other in USES.get(name, ()):
            add(other)
        found.setdefault(name, DEFINITIONS[name].strip("\n"))

    for name in DEFINITIONS:
        if re.search(rf"\b{name}\b", body):
            add(name)
    return "\n\n\n".join(found.values())


def _settings(writer: Writer, scopes: list[Scope], inputs: int) -> str:
    """What the judge reads: shapes, changes from outside, options."""
    layout = writer.layout
    batch = 2 if writer.chance(0.7) else writer.random.choice((1, 3, 4))
    others = [s for s in layout.elsewhere if writer.chance(0.5)]
    shapes = [(b, *layout.shape) for b in (1, 3, 5) if b != batch]
    shapes += [(batch, *other) for other in others]
    changes = [(s.name, change) for s in scopes for change in s.changes.values()]
    settings = {
        "INPUTS": inputs,
        "EXAMPLE": (batch, *layout.shape),
        "SHAPES": shapes,
        "CHANGES": changes,
        "TRAINING": writer.chance(0.5),
        "VERIFY": writer.chance(0.2),
        "MODULES": writer.random.choice((1, 2)),
        "WARM": writer.chance(0.1),
    }
    return "\n".join(f"{name} = {value!r}" for name, value in settings.items()) + "\n"
