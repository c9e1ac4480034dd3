"""What is said of solvers: a choice once, and what went wrong counted."""

import logging
import warnings
from collections import Counter

_LOG = logging.getLogger("fxtransport.ot")
_chosen: set[str] = set()
_counts: Counter[str] = Counter()


class TransportWarning(UserWarning):
    """A plan was found, but not as one would expect."""


def say_choice(text: str) -> None:
    """Log which solver is used, at level INFO, the first time in this process."""
    if text not in _chosen:
        _chosen.add(text)
        _LOG.info(text)


def count(kind: str, text: str) -> None:
    """Count an event, and warn of it the first time in this process.

    Args:
        kind: A short name for :func:`counts`.
        text: What happened, and what to do.
    """
    _counts[kind] += 1
    if _counts[kind] == 1:
        message = f"{text} (said once; fxtransport.ot.counts() says how often it happened)"
        warnings.warn(message, TransportWarning, stacklevel=3)


def choices() -> list[str]:
    """Return every choice of a solver that was made in this process, in alphabetical order."""
    return sorted(_chosen)


def counts() -> dict[str, int]:
    """Return how often each kind of event happened that a warning tells of once.

    ``one sample``: activations of a single sample. ``all dead``: all activations of a model are
    zero. ``gave up``: an approximate solver did not reach its tolerance. ``unpruned``: pruning
    did not find an exact plan, so the dense solver did.
    """
    return dict(_counts)


def reset() -> None:
    """Forget all choices and counts: both are said again."""
    _chosen.clear()
    _counts.clear()
