"""Compare two networks layer by layer, and a run with its beginning."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fxtransport.comparing.networks import Network, open_network
from fxtransport.comparing.representations import Representation, representations
from fxtransport.detecting.source import DataSource
from fxtransport.errors import UsageError
from fxtransport.ot.conditional import ConditionalDistance, state_distance
from fxtransport.ot.costs import check_power
from fxtransport.ot.similarity import Similarity, similarity, unbiased_cka
from fxtransport.ot.symmetry import hidden_layers
from fxtransport.runs.load import kept_epochs

SPLITS = ("validation", "test")


@dataclass(frozen=True)
class LayerPair:
    """A layer of the one network and a layer of the other.

    Attributes:
        a: The path of the first.
        b: The path of the second.
        widths: How many neurons each has.
        similarity: How alike they are.
    """

    a: str
    b: str
    widths: tuple[int, int]
    similarity: Similarity


@dataclass(frozen=True)
class Comparison:
    """How alike two networks are.

    Attributes:
        a: The name of the first.
        b: The name of the second.
        samples: How many samples both were run on.
        pairs: Layers that correspond: where both have as many layers of the same widths, one by
            one; else each layer of the first with the one of the second that is nearest by CKA.
        layers: The paths of all layers of both.
        cka: Unbiased CKA of each layer of the first with each of the second.
        conditional: The conditional OT distance; None for two architectures.
        p: The power of distances between neurons; None: that of each paper.
    """

    a: str
    b: str
    samples: int
    pairs: tuple[LayerPair, ...]
    layers: tuple[tuple[str, ...], tuple[str, ...]]
    cka: tuple[tuple[float, ...], ...]
    conditional: ConditionalDistance | None = field(default=None)
    p: float | None = None

    def to_json(self) -> dict[str, Any]:
        """All numbers, as JSON."""
        pairs = [
            {"a": pair.a, "b": pair.b, "widths": [*pair.widths], **asdict(pair.similarity)}
            for pair in self.pairs
        ]
        found = self.conditional
        distance = found and {
            "transport": found.transport,
            "l2": found.l2,
            "layers": [asdict(layer) for layer in found.layers],
        }
        return {
            "a": self.a,
            "b": self.b,
            "samples": self.samples,
            "p": self.p,
            "pairs": pairs,
            "layers": {"a": [*self.layers[0]], "b": [*self.layers[1]]},
            "cka": [[*row] for row in self.cka],
            "conditional": distance,
        }


def compare(
    a: Network,
    b: Network,
    source: DataSource | None = None,
    *,
    split: str = "validation",
    samples: int = 512,
    conditional: bool = True,
    p: float | None = None,
) -> Comparison:
    """Run two networks on the same samples, and compare what their layers make of them.

    Args:
        a: The one.
        b: The other. The two may have different architectures and input sizes.
        source: The data; that of the first network that is a run if None.
        split: ``validation`` or ``test``.
        samples: The largest number of samples.
        conditional: Whether to compute the conditional OT distance, for one architecture.
        p: The power of distances between neurons, at least 1: of activations, and of weights in
            the conditional distance. None: that of each paper, 1 for kept roles, else 2.

    Raises:
        UsageError: no data is known, the two do not see the same samples, or p is not valid.
    """
    if p is not None:
        check_power(p)
    source = source or a.source or b.source
    if source is None:
        raise UsageError(f"neither {a.name} nor {b.name} is a run, which knows its data: give data")
    own, its = (_Samples.of(each, source, split, samples) for each in (a, b))
    if not torch.equal(own.targets, its.targets):
        raise UsageError(f"{source.name} gives {a.name} and {b.name} different samples")
    one, two = representations(a.program, own.batches), representations(b.program, its.batches)
    cka = tuple(tuple(unbiased_cka(x.neurons, y.neurons) for y in two) for x in one)
    return Comparison(
        a=a.name,
        b=b.name,
        samples=len(own.targets),
        pairs=tuple(_pair(x, y, p) for x, y in _corresponding(one, two, cka)),
        layers=(tuple(x.path for x in one), tuple(y.path for y in two)),
        cka=cka,
        conditional=_distance(a, b, own.batches[0], p or 2.0) if conditional else None,
        p=p,
    )


def compare_along(
    run: str,
    reference: Network | None = None,
    source: DataSource | None = None,
    *,
    trust_files: bool = False,
    **how: Any,
) -> Iterator[tuple[int, Comparison]]:
    """Compare the weights that a run kept, epoch by epoch, with its first ones or with a network.

    Args:
        run: The folder of a run that was trained with ``keep_checkpoints``.
        reference: What they are compared with; the weights that the run began with if None.
        source: The data; the run's own if None.
        trust_files: Whether a Python file that the run names may be run.
        how: ``split``, ``samples``, ``conditional`` and ``p``, as for :func:`compare`.

    Yields:
        The number of epochs, and the comparison.

    Raises:
        UsageError: the run kept no weights.
    """
    epochs = kept_epochs(Path(run))
    if not epochs:
        raise UsageError(f"{run} kept no weights along the way: train with keep_checkpoints=1")
    for epoch in epochs:
        network = open_network(run, epoch=epoch, trust_files=trust_files)
        reference = reference or network
        yield epoch, compare(network, reference, source, **how)


@dataclass(frozen=True, eq=False)
class _Samples:
    """The inputs of a network, batch by batch, and their targets."""

    batches: list[Tensor]
    targets: Tensor

    @classmethod
    def of(cls, network: Network, source: DataSource, split: str, samples: int) -> "_Samples":
        if split not in SPLITS:
            raise UsageError(f"split is {split!r}; it must be one of {', '.join(SPLITS)}")
        data = network.data(source)
        stream = data.require_test() if split == "test" else data.validation
        if stream is None:
            raise UsageError(f"{source.name} has no validation split; take split='test'")
        inputs, targets, left = [], [], samples
        for x, y in islice(iter(stream), samples):
            inputs.append(x[:left])
            targets.append(y[:left])
            left -= len(inputs[-1])
            if left <= 0:
                break
        return cls(inputs, torch.cat(targets))


def _corresponding(
    one: Sequence[Representation],
    two: Sequence[Representation],
    cka: Sequence[Sequence[float]],
) -> list[tuple[Representation, Representation]]:
    if [len(x.neurons) for x in one] == [len(y.neurons) for y in two]:
        return [*zip(one, two, strict=True)]
    return [
        (x, two[max(range(len(two)), key=row.__getitem__)]) for x, row in zip(one, cka, strict=True)
    ]


def _pair(x: Representation, y: Representation, p: float | None) -> LayerPair:
    widths = (len(x.neurons), len(y.neurons))
    return LayerPair(x.path, y.path, widths, similarity(x.neurons, y.neurons, p=p))


def _distance(a: Network, b: Network, inputs: Tensor, p: float) -> ConditionalDistance | None:
    one, two = a.program.model_state_dict(), b.program.model_state_dict()
    if _shapes(one) != _shapes(two):
        return None
    return state_distance(hidden_layers(a.program, inputs[:2]), one, two, p=p)


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
