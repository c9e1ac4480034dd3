"""Two numbers per residual block, by which the trajectory of an image is judged."""

import math
from collections.abc import Iterable, Sequence

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
        self._axes = tuple(block.channels for block in self.blocks)

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
            if self.program.training:
                raise UsageError("the program is in train mode; call eval() before it is compiled")
            return self._extract(images)
        with eval_mode(self.program):
            return self._extract(images)

    def _extract(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        moments = _Moments(self.kinds, self._axes, self.directions)
        with torch.set_grad_enabled(self.differentiable and torch.is_grad_enabled()):
            output, found = self.program(images, measure=moments)
            logits = find_logits(output, lambda value: isinstance(value, torch.Tensor))
            if logits is None:
                raise UsageError(
                    f"cannot take logits from a {type(output).__name__}: the model must return "
                    "them, or under the name logits"
                )
            _check_rows(self.blocks, found, logits.shape[0])
            return logits, _features(torch.stack(found, dim=1))


class _Moments:
    """Measures what features are made of, of the blocks in turn.

    Args:
        kinds: Of which blocks.
        axes: Of each of them, the dimension of the channels, along which directions vary.
        directions: How many there are.
    """

    def __init__(
        self, kinds: frozenset[Kind] | None, axes: tuple[int, ...], directions: int
    ) -> None:
        self._kinds = kinds
        self._axes = iter(axes)
        self._directions = directions

    def __call__(self, residue: Residue) -> torch.Tensor | None:
        """The mean square, the mean, and the mean products with other directions: B×(1 + D).

        The mean products are with directions of mean square 1.
        """
        if self._kinds is not None and residue.kind not in self._kinds:
            return None
        value = residue.branch
        if value.dim() == 1:
            value = value[:, None]
        dtype = torch.float64 if value.dtype == torch.float64 else torch.float32
        every = tuple(range(1, value.dim()))
        # means over dimensions, which take a residue in whatever order it lies in memory
        square = value.to(dtype).square().mean(every)
        if self._directions == 1:
            return torch.stack((square, value.mean(every, dtype=dtype)), dim=1)
        axis = next(self._axes)
        others = [d for d in every if d != axis]
        profile = value.mean(others, dtype=dtype) if others else value.to(dtype)
        return torch.cat((square[:, None], profile @ _directions(profile, self._directions)), dim=1)


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
    energies, means = moments[..., :1], moments[..., 1:]
    nothing = energies == 0
    # the inner choice keeps the gradient of a residue of zeros finite
    cosines = torch.where(nothing, 0.0, means / torch.where(nothing, 1.0, energies).sqrt())
    pairs = torch.cat((energies, cosines[..., :1]), dim=-1)
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


def _check_rows(blocks: Sequence[Block], found: Sequence[torch.Tensor], batch: int) -> None:
    """Check that the first dimension of each residue is the batch's.

    Raises:
        UsageError: it is another.
    """
    for block, value in zip(blocks, found, strict=True):
        if value.shape[0] != batch:
            raise UsageError(
                f"the residue of {block.path!r} has {value.shape[0]} rows for {batch} images: its "
                "first dimension is not the batch, so that it cannot be told from the others'"
            )
