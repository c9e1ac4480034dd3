"""The networks of the detection benchmark, how they are trained, and the images they are shown.

The loops are those of ``digits.py``: they need only a program and an objective.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from digits import Learners, Recipe, Split, exits
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from fxtransport import transportify
from fxtransport.data import load
from fxtransport.nets import initialize, resnet_m
from fxtransport.objectives import Objective, lap, plain, rce
from fxtransport.program import Program

TRAINED: dict[str, Callable[[], Objective]] = {
    "VAN": plain,
    "LAP": lambda: lap(1, 1, 1),
    "RCE": rce,
}
"""How a network is trained, as the thesis abbreviates it; LAP with its λ0 = τ = s = 1."""
BLOCKS, CHANNELS, GAIN = 9, 16, 0.01
RECIPE = Recipe(lr=0.05, batch_size=64)


@dataclass(frozen=True)
class Data:
    """A set, and what is done with it.

    Attributes:
        size: (C, H, W) of its images.
        test: The share that the network is not trained on, of which detectors learn.
        images: How many of these are attacked.
        epochs: How long the network trains.
        epsilon: The bound of attacks that have one.
        near: Another set that looks like it.
        far: One that does not.
    """

    size: tuple[int, int, int]
    test: float
    images: int
    epochs: int
    epsilon: float
    near: str
    far: str


DATA = {
    "digits": Data((1, 8, 8), 0.4, 300, 30, 0.1, "mnist5k", "patches"),
    "mnist5k": Data((1, 28, 28), 0.2, 180, 6, 0.1, "digits", "patches"),
    "patches": Data((3, 32, 32), 0.3, 180, 20, 0.03, "textures", "mnist5k"),
}
TEXTURES = ("brick", "grass", "gravel", "camera", "moon", "coins")
"""Photographs of scikit-image that ``patches`` does not use, in gray."""


@dataclass(frozen=True)
class Pixels:
    """Images, N×C×H×W from 0 to 1, and their classes."""

    images: Tensor
    labels: Tensor


@lru_cache(4)
def pixels(name: str, seed: int) -> tuple[Pixels, Pixels]:
    """Of a set: what the network is trained on, and the rest."""
    about = DATA[name]
    splits = load(
        name,
        seed=seed,
        batch_size=10_000,
        validation=0,
        test=about.test,
        transform={"mean": (0.0,), "std": (1.0,)},
    )
    return Pixels(*next(splits.train.epoch(0))), Pixels(*next(iter(splits.test)))


def other_images(name: str, size: tuple[int, int, int], count: int, seed: int) -> Tensor:
    """Images of another set in the size of this one, N×C×H×W from 0 to 1."""
    images = _textures() if name == "textures" else pixels(name, seed)[1].images
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    chosen = images[order[:count]]
    if size[0] == 1:
        chosen = chosen.mean(1, keepdim=True)
    chosen = F.interpolate(chosen, size[1:], mode="bilinear", antialias=True)
    return chosen.expand(-1, size[0], -1, -1).clamp(0, 1).contiguous()


def _textures() -> Tensor:
    from skimage import data

    tiles = []
    for name in TEXTURES:
        gray = torch.from_numpy(getattr(data, name)()).float() / 255
        rows = gray.unfold(0, 32, 32).unfold(1, 32, 32).reshape(-1, 1, 32, 32)
        tiles.append(rows)
    return torch.cat(tiles)


@dataclass(frozen=True)
class Net:
    """A trained network, with the normalization of its images."""

    program: Program
    mean: tuple[float, ...]
    std: tuple[float, ...]
    accuracy: float


def trained(name: str, how: str, seed: int, folder: Path, epochs: int | None = None) -> Net:
    """The ResNet-9 of 16 channels on a set; weights that are in the folder are not trained again.

    Args:
        name: Which set.
        how: Of :data:`TRAINED`.
        seed: Of the split, the initialization and the order.
        folder: Where weights are kept.
        epochs: How long; by default as :data:`DATA` says.
    """
    about = DATA[name]
    epochs = about.epochs if epochs is None else epochs
    train, test = pixels(name, seed)
    mean = train.images.mean((0, 2, 3))
    std = train.images.std((0, 2, 3))

    def normalized(given: Pixels) -> Split:
        shape = (-1, 1, 1)
        return Split((given.images - mean.reshape(shape)) / std.reshape(shape), given.labels)

    torch.manual_seed(seed)
    model = resnet_m(
        BLOCKS, channels=CHANNELS, in_chans=about.size[0], image_size=about.size[1], init=None
    )
    initialize(model, "orthogonal", GAIN)
    program = transportify(model, normalized(train).images[:2], activations=("penultimate",))
    path = folder / f"{name}-{how}-{seed}-{epochs}.safetensors"
    if path.exists():
        program.load_state_dict(load_file(path))
    else:
        learners = Learners((program.whole,), TRAINED[how](), RECIPE, seed)
        for epoch in range(epochs):
            if epoch == epochs * 2 // 3:
                for optimizer in learners.optimizers:
                    optimizer.param_groups[0]["lr"] /= 10
            learners.epoch(normalized(train))
        folder.mkdir(parents=True, exist_ok=True)
        save_file({key: value.contiguous() for key, value in program.state_dict().items()}, path)
    [accuracy] = exits((program.whole,), normalized(test))
    return Net(program.eval(), tuple(mean.tolist()), tuple(std.tolist()), accuracy)
