"""Points in the plane, in two classes, made by scikit-learn."""

from typing import Any

import torch

from fxtransport.data.holdout import HoldOut, SplitSamples
from fxtransport.data.streams import TensorSamples
from fxtransport.randomness import derived_seed


def load_circles(
    hold_out: HoldOut, *, points: int = 1000, noise: float = 0.05, factor: float = 0.3
) -> SplitSamples:
    """Two concentric circles in the plane, N×2 (THESIS 3.2.2, ``sklearn.datasets.make_circles``).

    THESIS has 1000 points, a fifth of them for the test; noise and factor are those of its
    authors' program.

    Args:
        hold_out: How the points are split; its seed also draws them.
        points: How many there are on both circles together.
        noise: The standard deviation of Gaussian noise on each coordinate.
        factor: The radius of the inner circle; that of the outer one is 1.
    """
    from sklearn import datasets

    seed = derived_seed(hold_out.seed) % 2**32
    drawn, classes = datasets.make_circles(points, noise=noise, factor=factor, random_state=seed)
    return _split_points(hold_out, drawn, classes, ("outer", "inner"))


def load_moons(hold_out: HoldOut, *, points: int = 1000, noise: float = 0.05) -> SplitSamples:
    """Two interleaved half circles, N×2 (THESIS F.5.2, ``sklearn.datasets.make_moons``).

    Args:
        hold_out: How the points are split; its seed also draws them.
        points: How many there are on both half circles together.
        noise: The standard deviation of Gaussian noise on each coordinate.
    """
    from sklearn import datasets

    seed = derived_seed(hold_out.seed) % 2**32
    drawn, classes = datasets.make_moons(points, noise=noise, random_state=seed)
    return _split_points(hold_out, drawn, classes, ("upper", "lower"))


def _split_points(
    hold_out: HoldOut, points: Any, classes: Any, class_names: tuple[str, ...]
) -> SplitSamples:
    inputs, targets = torch.from_numpy(points).float(), torch.from_numpy(classes).long()
    indices = hold_out.split(targets.tolist(), class_names)
    train, validation, test = (TensorSamples(inputs[own], targets[own]) for own in indices)
    return SplitSamples(
        train,
        validation if len(validation) else None,
        test,
        class_names,
        (2,),
        in_memory=True,
        sources=hold_out.whole_set(targets.tolist(), indices),
    )
