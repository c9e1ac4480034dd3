"""The partition, or the batch, with which training fits a budget of memory."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fxtransport.errors import MemoryBudgetError
from fxtransport.fewest import Fewest
from fxtransport.ir import Balance, Boundary
from fxtransport.planner import Planner, Row
from fxtransport.report.words import plural, size
from fxtransport.training.memory import StepMemory

CUDA_CONTEXT = 600 * 2**20
"""Bytes. What a CUDA context and the workspaces of cuBLAS and cuDNN take."""
FRAGMENTATION = 0.03
"""The share of a budget that is left for fragmentation, and for what kernels take."""
_UNSURE = 1.06
"""By how much a prediction may exceed what is then measured."""
_START, _MOST = 32, 2**20


@dataclass(frozen=True)
class Fit:
    """What fits."""

    modules: int
    balance: Balance
    cuts: tuple[Boundary, ...]
    names: tuple[str, ...]
    """The cuts as ``--cut`` takes them."""
    batch_size: int
    memory: StepMemory
    flops: int
    """Floating-point operations of one training step, heads included."""
    checkpoint_blocks: tuple[int, ...] = ()
    """How many residual blocks of each part are computed again in the backward pass, the first
    ones; empty if none are."""
    blocks: int = 0
    """How many can be, of all parts."""
    recompute_norms: bool = False
    """Whether what norms and activations return is computed again in the backward pass."""

    @property
    def checkpoint_activations(self) -> bool:
        """Whether activations are computed again in the backward pass."""
        return any(self.checkpoint_blocks)

    @property
    def how(self) -> str:
        """What is done beside cutting, in words."""
        again = ["norms"] if self.recompute_norms else []
        if self.checkpoint_activations:
            again.append(f"{sum(self.checkpoint_blocks)} of {plural(self.blocks, 'block')}")
        return f", computing {' and '.join(again)} again" if again else ""

    @property
    def peak_bytes(self) -> int:
        """The peak of training."""
        return self.memory.peak_bytes


def reserve_of(budget: int, device: str) -> int:
    """How much of a budget is not for tensors, in bytes.

    On CUDA, a context and workspaces take 600 MiB. On all devices, 3 % are left for fragmentation.
    """
    return int(budget * FRAGMENTATION) + (CUDA_CONTEXT if device.startswith("cuda") else 0)


def fit_modules(
    planner: Planner, budget: int, modules: int | None = None, *, checkpoint: bool = True
) -> Fit:
    """The smallest number of parts with which a batch fits, with the cuts of least memory.

    Where none does, the smallest with which it fits if norms and activations are computed again,
    which takes little time; where that is not enough, residual blocks too, with the cuts for which
    that takes the fewest operations, and no more blocks than needed.

    Args:
        planner: For the batch size.
        budget: Bytes, the reserve included.
        modules: The number of parts; None: the smallest that fits.
        checkpoint: Whether activations may be computed again.

    Raises:
        MemoryBudgetError: nothing fits; the error says what would.
    """
    limit = budget - reserve_of(budget, planner.training.device)
    tried: list[Fit] = []
    for each in _ladder(planner) if checkpoint else [planner]:
        for fit in _candidates(each, limit, modules):
            if fit.peak_bytes <= limit:
                return _with_fewest_blocks(each, fit, limit)
            tried.append(fit)
    raise MemoryBudgetError(_too_little(planner, budget, tried, modules))


def _ladder(planner: Planner) -> Iterator[Planner]:
    """Planners that compute nothing again, norms, and residual blocks, as far as each can."""
    yield planner
    norms = planner.recomputing
    if norms is not None:
        yield norms
    blocks = (norms or planner).checkpointing
    if blocks is not None:
        yield blocks


def _with_fewest_blocks(planner: Planner, fit: Fit, limit: int) -> Fit:
    """What fits with as little computed again as possible; as it is where that is not open."""
    if planner.plain is None:
        return fit
    found = Fewest(planner, limit, fit.cuts, fit.peak_bytes).choose()
    if found is None or found.flops >= fit.flops:
        return fit
    return replace(
        fit,
        cuts=found.cuts,
        names=planner.names(found.cuts),
        memory=found.memory,
        flops=found.flops,
        checkpoint_blocks=found.counts,
    )


def _candidates(planner: Planner, limit: int, modules: int | None) -> Iterator[Fit]:
    """Measured partitions, until one fits: those that are likely to, the fewest parts first."""
    if modules in (None, 1):
        yield (whole := _measured(planner, ()))
        if modules == 1 or whole.peak_bytes <= limit:
            return
    counts = range(2, planner.most() + 1) if modules is None else (modules,)
    rows = [planner.row(count, Balance.MEMORY) for count in counts]
    waiting = [row for row in rows if row.peak_bytes <= limit * _UNSURE]
    if not waiting and rows:
        yield _measured(planner, min(rows, key=_peak).cuts)
    found: Fit | None = None
    beside = 0
    while waiting:
        likely = [row for row in waiting if row.peak_bytes + beside <= limit * _UNSURE]
        if found is not None and not likely:
            break
        row = likely[0] if likely else min(waiting, key=_peak)
        waiting.remove(row)
        fit = _measured(planner, row.cuts)
        # a teacher, say, is not in the prediction, and may take less beside other partitions
        beside = fit.peak_bytes - row.peak_bytes
        if fit.peak_bytes <= limit:
            found, waiting = fit, [row for row in waiting if row.modules < fit.modules]
            continue
        yield fit
        if not likely:
            break
    if found is not None:
        yield found


def _peak(row: Row) -> int:
    return row.peak_bytes


def _measured(planner: Planner, cuts: tuple[Boundary, ...]) -> Fit:
    memory = planner.measure(cuts) if cuts else planner.end_to_end
    every = planner.blocks_of(cuts) if planner.checkpoints else ()
    return Fit(
        len(cuts) + 1,
        Balance.MEMORY,
        cuts,
        planner.names(cuts),
        planner.batch_size,
        memory,
        planner.flops_of(cuts),
        every,
        sum(every),
        planner.recomputes,
    )


def fit_batch(
    planner: Planner, budget: int, modules: int | None = None, *, checkpoint: bool = True
) -> Fit:
    """The largest batch that fits, in the smallest number of parts with which it does.

    Activations are computed again only where not even one sample fits without: a larger batch
    does not make up for the time.

    Args:
        planner: For any batch size.
        budget: Bytes, the reserve included.
        modules: The number of parts; None: any.
        checkpoint: Whether activations may be computed again.

    Raises:
        MemoryBudgetError: not even one sample fits.
    """
    limit = budget - reserve_of(budget, planner.training.device)
    below, above = 0, _MOST
    batch_size, known = _START, {}
    fit: Fit | None = None
    while below + 1 < above:
        found = _least(planner.at(batch_size), modules)
        known[batch_size] = found.peak_bytes
        if found.peak_bytes <= limit:
            below, fit = batch_size, found
        else:
            above = batch_size
        batch_size = _next(known, limit, below, above)
    if fit is not None:
        return fit_modules(planner.at(below), budget, modules, checkpoint=False)
    again = (planner.recomputing or planner.checkpointing) if checkpoint else None
    if again is not None:
        return fit_batch(again, budget, modules)
    return fit_modules(planner.at(1), budget, modules)


def _least(planner: Planner, modules: int | None) -> Fit:
    """The partition of least memory."""
    counts = range(2, planner.most() + 1) if modules is None else (modules,)
    rows = [planner.row(count, Balance.MEMORY) for count in counts]
    if not rows or modules == 1:
        return _measured(planner, ())
    return _measured(planner, min(rows, key=lambda row: row.peak_bytes).cuts)


def _next(known: dict[int, int], limit: int, below: int, above: int) -> int:
    """The batch size to try: memory grows linearly with it."""
    if len(known) == 1:
        (only,) = known
        return max(1, only // 2) if above == only else only * 2
    (b0, m0), (b1, m1) = sorted(known.items(), key=lambda item: abs(item[1] - limit))[:2]
    slope = (m1 - m0) / (b1 - b0)
    guess = int(b0 + (limit - m0) / slope) if slope > 0 else (below + above) // 2
    return min(max(guess, below + 1), above - 1)


def _too_little(planner: Planner, budget: int, tried: list[Fit], modules: int | None) -> str:
    best = min(tried, key=lambda fit: fit.peak_bytes)
    needed = best.peak_bytes
    while needed - reserve_of(needed, planner.training.device) < best.peak_bytes:
        needed = needed + max(1, best.peak_bytes // 100)
    parts = "part" if best.modules == 1 else "parts"
    among = "" if modules is None else f" in {modules} {parts}"
    return (
        f"training with batches of {planner.batch_size}{among} does not fit into {size(budget)}: "
        f"the least is {size(best.peak_bytes)}, in {best.modules} {parts}{best.how}, for which "
        f"a budget of {size(needed)} is enough; give a smaller batch_size, or leave it out for the "
        "largest that fits"
    )
