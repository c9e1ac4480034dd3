"""What a compiled model is: generated functions, and what each needs of the model."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Function:
    """A generated function. Its first argument is a module with the model's submodules."""

    call: Callable[..., Any]
    source: str
    inputs: tuple[str, ...]

    def __deepcopy__(self, memo: object) -> "Function":
        return self


@dataclass(frozen=True)
class LoweredPart:
    """One module of the partition."""

    function: Function
    """Takes a cost last. Returns the hidden state that leaves, a tuple, and what each residual
    block inside costs, a list: None where the cost says so, or where no cost is given."""
    owned: tuple[str, ...]
    """The paths of the submodules, parameters and buffers that it uses; of a submodule that
    it alone uses, only the outermost path."""
    residues: tuple[str, ...]


@dataclass(frozen=True)
class Lowered:
    """The functions that a program runs."""

    forward: Function
    """Returns what the model returns."""
    transport: Function
    """Returns what the model returns, and the residues, a list."""
    parts: tuple[LoweredPart, ...]
    whole: LoweredPart
    """The model as one module, which returns what the model returns."""

    @property
    def hash(self) -> str:
        """A hash of what a program computes and where it is cut."""
        text = [self.transport.source, *(part.function.source for part in self.parts)]
        return hashlib.sha256("\0".join(text).encode()).hexdigest()

    def text(self) -> str:
        """The generated Python, to read."""
        named = [("transport", self.transport.source)]
        named += [(f"part {k}", part.function.source) for k, part in enumerate(self.parts)]
        header = '"""What the program runs. For reading: this file is never executed."""\n'
        return header + "".join(f"\n# {name}\n{code.strip()}\n" for name, code in named)
