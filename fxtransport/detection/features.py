"""Two numbers per residual block, by which the trajectory of an image is judged."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from fxtransport.errors import UsageError
from fxtransport.ir import TAPPED_KINDS, Block, Kind
from fxtransport.modes import eval_mode
from fxtransport.outputs import find_logits
from fxtransport.program import Program
from fxtransport.residue import Residue


class TransportFeatures(nn.Module):
    """From images to logits, and to the energy and the direction of each residue.

    Of block m, x_{m+1} = x_m + r_m(x_m), where r_m has d_m numbers for each image, column 2m is
    the energy ‖r_m‖²/d_m, and column 2m + 1 is cos(r_m, 1), the cosine of the angle between r_m
    and the vector of ones (THESIS 5.3.1). The cosine of a residue of zeros is 0. In a model
    without additions, the blocks are its equal-dimension layers.

    Everything is computed in one forward, in eval mode. The modes of the modules are set for as
    long as that takes, and are then as they were. Under ``torch.compile`` and ``torch.export``
    they cannot be set: call ``eval()`` first.

    Args:
        program: The program, which is shared, not copied.
        kinds: The kinds of additions whose residues are read; by default all that are tapped.
        directions: How many directions the angles of a residue are taken to. The first is the
            vector of ones, 1. Direction j, from 1, is cos(πj(i + ½)/n) in channel i of n,
            everywhere in space, so that all are orthogonal. Their columns follow after the
            first 2M, those of a block side by side.
        differentiable: Whether gradients can be taken. Otherwise, none are kept.

    Raises:
        UsageError: the program has no tapped block of these kinds, or one that has not so many
            channels.

    >>> from fxtransport import transportify
    >>> class Block(nn.Linear):
    ...     def forward(self, x):
    ...         return x + super().forward(x).relu()
    >>> model = nn.Sequential(Block(8, 8), Block(8, 8), nn.Linear(8, 3))
    >>> extract = TransportFeatures(transportify(model, torch.zeros(2, 8)))
    >>> logits, features = extract(torch.randn(5, 8))
    >>> logits.shape, features.shape
    (torch.Size([5, 3]), torch.Size([5, 4]))
    >>> extract.columns
    ('0 energy', '0 cosine', '1 energy', '1 cosine')
    """

    def __init__(
        self,
        program: Program,
        kinds: Iterable[Kind | str] | None = None,
        directions: int = 1,
        differentiable: bool = False,
    ) -> None:
        super().__init__()
        self.program = program
        self.kinds = _kinds(kinds)
        self.directions = directions
        self.differentiable = differentiable
        self.blocks = _blocks(program, self.kinds)
        self.training = program.training
        _check_directions(self.blocks, directions)

    @property
    def columns(self) -> tuple[str, ...]:
        """What each feature is: the path of the block, and ``energy``, ``cosine`` or ``cosine j``.

        Paths are those of the modules that add; the root is ``""``.
        """
        first = [f"{b.path} {word}" for b in self.blocks for word in ("energy", "cosine")]
        others = [f"{b.path} cosine {j}" for b in self.blocks for j in range(1, self.directions)]
        return (*first, *others)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The logits and the features of images.

        Args:
            images: B images, or whatever B rows the model takes as its only argument.

        Returns:
            The logits, B×C, in the model's dtype, and the features, B×2M, float32 (B×(D + 1)M
            with D directions). Sums are taken in float32 at least.

        Raises:
            UsageError: the model returns no logits, or a residue has not one row for each image.
        """
        if torch.compiler.is_compiling():
            check_mode(self.program)
            return self._extract(images)
        with eval_mode(self.program):
            return self._extract(images)

    def _extract(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        moments = Moments(self)
        with torch.set_grad_enabled(self.differentiable and torch.is_grad_enabled()):
            output, _ = self.program(images, measure=moments)
            logits = logits_of(output)
            return logits, moments.features(logits)


class Moments:
    """Measures what features are made of, of one block after the other, in one forward.

    Args:
        wanted: The features.
    """

    def __init__(self, wanted: TransportFeatures) -> None:
        self._wanted = wanted
        self._found: list[torch.Tensor] = []

    def __call__(self, residue: Residue) -> None:
        """The root mean square, the mean, and mean products with other directions: B×(1 + D)."""
        kinds, directions = self._wanted.kinds, self._wanted.directions
        if kinds is not None and residue.kind not in kinds:
            return
        axis = self._wanted.blocks[len(self._found)].channels
        value = residue.branch
        if value.dim() == 1:
            value = value[:, None]
        dtype = torch.float64 if value.dtype == torch.float64 else torch.float32
        every = tuple(range(1, value.dim()))
        root = _root_mean_square(value, dtype)
        if directions == 1:
            self._found.append(torch.stack((root, value.mean(every, dtype=dtype)), dim=1))
            return
        others = [d for d in every if d != axis]
        profile = value.mean(others, dtype=dtype) if others else value.to(dtype)
        means = profile @ _directions(profile, directions)
        self._found.append(torch.cat((root[:, None], means), dim=1))

    def features(self, logits: torch.Tensor) -> torch.Tensor:
        """The features of what was measured: B×(D + 1)M, float32.

        Args:
            logits: Of the same B images.

        Raises:
            UsageError: a residue has not one row for each image.
        """
        for block, value in zip(self._wanted.blocks, self._found, strict=True):
            if value.shape[0] != logits.shape[0]:
                raise UsageError(
                    f"the residue of {block.path!r} has {value.shape[0]} rows for "
                    f"{logits.shape[0]} images: its first dimension is not the batch, so that "
                    "images cannot be told apart in it"
                )
        return _features(torch.stack(self._found, dim=1))


def check_mode(program: Program) -> None:
    """Check that a program is in eval mode, where its mode cannot be set.

    Raises:
        UsageError: it is not.
    """
    if program.training:
        raise UsageError("the program is in train mode; call eval() before it is compiled")


def logits_of(output: Any) -> torch.Tensor:
    """The logits in what a model returns.

    Raises:
        UsageError: there are none.
    """
    logits: torch.Tensor | None = find_logits(output, lambda x: isinstance(x, torch.Tensor))
    if logits is None:
        raise UsageError(
            f"cannot take logits from a {type(output).__name__}: the model must return them, or "
            "have them under the name logits"
        )
    return logits


_SHORT = 1 << 15
"""How many squares are added up one after the other before rounding shows."""


def _root_mean_square(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The root mean square of each row of B×…, without a copy of the row's squares."""
    count = math.prod(value.shape[1:])
    within = list(range(1, value.dim()))
    if torch.compiler.is_compiling():
        # compiled code takes squares and sum in one loop
        return _safe_root(value.to(dtype).square().mean(within))
    # from the outermost in memory to the innermost
    within.sort(key=value.stride, reverse=True)
    at_once = count
    while at_once > _SHORT and len(within) > 1:
        at_once //= value.shape[within.pop(0)]
    norm: torch.Tensor = torch.linalg.vector_norm(value, 2, within, dtype=dtype)
    if norm.dim() > 1:
        norm = torch.linalg.vector_norm(norm.flatten(1), 2, 1)
    return norm / math.sqrt(count)


def _safe_root(squares: torch.Tensor) -> torch.Tensor:
    """The root, whose gradient at 0 is 0."""
    nothing = squares == 0
    return torch.where(nothing, 0.0, torch.where(nothing, 1.0, squares).sqrt())


def _directions(profile: torch.Tensor, count: int) -> torch.Tensor:
    """What takes the mean products of rows with directions of mean square 1: n×D for B×n."""
    n = profile.shape[1]
    # in float64, so that machines differ in the last digit at most
    position = torch.arange(n, device=profile.device, dtype=torch.float64)[:, None] + 0.5
    order = torch.arange(count, device=profile.device, dtype=torch.float64)
    waves = torch.cos(position * order * (math.pi / n)) * torch.where(order > 0, 2**0.5, 1.0)
    return (waves / n).to(profile.dtype)


def _features(moments: torch.Tensor) -> torch.Tensor:
    """The features of B×M×(1 + D) moments: B×(D + 1)M, float32."""
    root, means = moments[..., :1], moments[..., 1:]
    # the inner choice keeps the gradient of a residue of zeros finite
    cosines = torch.where(root == 0, 0.0, means / torch.where(root == 0, 1.0, root))
    pairs = torch.cat((root.square(), cosines[..., :1]), dim=-1)
    return torch.cat((pairs.flatten(1), cosines[..., 1:].flatten(1)), dim=1).float()


def _kinds(kinds: Iterable[Kind | str] | None) -> frozenset[Kind] | None:
    if kinds is None:
        return None
    known = {str(kind): kind for kind in TAPPED_KINDS}
    found = [kinds] if isinstance(kinds, str) else list(kinds)
    for kind in found:
        if str(kind) not in known:
            raise UsageError(f"kinds are {', '.join(known)}, not {str(kind)!r}")
    return frozenset(known[str(kind)] for kind in found)


def _blocks(program: Program, kinds: frozenset[Kind] | None) -> tuple[Block, ...]:
    """The blocks that are measured.

    Raises:
        UsageError: there are none.
    """
    tapped = program.facts.blocks
    if not tapped:
        raise UsageError(
            "the program has no residual block and no layer that keeps its shape, so that there "
            "is no trajectory to look at"
        )
    found = tuple(block for block in tapped if kinds is None or block.kind in kinds)
    if not found:
        there = ", ".join(sorted({str(block.kind) for block in tapped}))
        raise UsageError(
            f"no block of kind {', '.join(sorted(map(str, kinds or ())))} is tapped in the "
            f"program; there are blocks of kind {there}"
        )
    return found


def _check_directions(blocks: Sequence[Block], directions: int) -> None:
    """Check that the channels of each block have so many directions.

    Raises:
        UsageError: they have fewer, or the number is below 1.
    """
    if directions < 1:
        raise UsageError(f"directions is 1 or more, not {directions}")
    narrowest = min(blocks, key=_channels)
    if directions > _channels(narrowest):
        raise UsageError(
            f"the residue of {narrowest.path!r} has {_channels(narrowest)} channels, which have "
            f"as many directions, not {directions}"
        )


def _channels(block: Block) -> int:
    return block.shape[block.channels - 1] if block.shape else 1
