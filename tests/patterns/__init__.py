"""Small modules by hand, one for each way in which the zoo writes, or only seems to write,
a residual addition; see ``docs/residuals.md``.

Each knows the answer: which module adds what kind of residual, and the residues' values,
computed apart and out of place.
"""

from tests.patterns import convolutions, no_residuals, norms, spellings, transformers
from tests.patterns.base import Pattern

__all__ = ["PATTERNS", "Pattern"]

PATTERNS = {
    pattern.__name__: pattern
    for module in (convolutions, norms, transformers, spellings, no_residuals)
    for pattern in vars(module).values()
    if isinstance(pattern, type) and pattern in Pattern.__subclasses__()
}
"""Every pattern, by name."""
