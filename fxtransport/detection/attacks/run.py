"""Attack a set of images."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from fxtransport.detection.attacks.attack import Attack, Goal, Pool, predict
from fxtransport.detection.attacks.attacked_set import AttackedSet
from fxtransport.detection.attacks.cache import content_hash, fetch, store
from fxtransport.detection.attacks.undisturbed import undisturbed
from fxtransport.errors import UsageError
from fxtransport.randomness import derived_seed

Progress = Callable[[int, int], None]
"""Is told how many images are done, and how many there are."""


def attack_images(
    attack: Attack,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    targets: Tensor | None = None,
    seed: int = 0,
    batch_size: int = 128,
    count_all: bool = False,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> AttackedSet:
    """Attack images, and say which count as attacked.

    The attack runs on the model in eval mode. Afterwards the model and the generators of the
    process are as they were. An attack that looks for the nearest image of another class is
    not run on images that are misclassified already.

    Args:
        attack: Which attack, with its settings.
        model: From pixels, B×C×H×W, to logits, such as a
            :class:`~fxtransport.detection.attacks.PixelModel`.
        images: N×C×H×W, float32, from 0 to 1, where the model is.
        labels: The true classes, N, int64.
        targets: The classes that the model shall predict, N, int64; if None, any but the true
            one will do.
        seed: Determines what is random, together with ``batch_size``.
        batch_size: How many images are attacked at once.
        count_all: Count every image as attacked, as the published tables do.
        cache: A folder of attacked images. They are read from there if they were made of these
            images, weights, settings and seed, and written there otherwise.
        progress: Called after each batch.

    Raises:
        UsageError: images are not from 0 to 1, lengths do not agree, the attack cannot be
            targeted, its package is not installed, or a file of the cache is damaged.
    """
    goal = Goal(labels, targets)
    _check(attack, model, images, goal)
    with undisturbed(model, images.device, seed):
        before = predict(model, images, batch_size)
    pool = Pool(images, before)

    def make() -> dict[str, Tensor]:
        made = _attack_all(attack, model, pool, goal, seed, batch_size, progress)
        return {"attacked": made[0], "broken": made[1]}

    if cache is None:
        made = make()
    else:
        key = _key(attack, model, pool, goal, seed, batch_size)
        path = cache / f"{attack.name}-{key[:32]}.safetensors"
        found = fetch(path, key)
        made = make() if found is None else found
        if found is None:
            store(path, key, made)
    attacked = made["attacked"].to(images.device)
    with undisturbed(model, images.device, seed):
        after = predict(model, attacked, batch_size)
    return AttackedSet(
        attack.name,
        attack.settings,
        images,
        attacked,
        labels,
        before,
        after,
        targets,
        made["broken"].to(images.device),
        count_all,
    )


def _attack_all(
    attack: Attack,
    model: nn.Module,
    pool: Pool,
    goal: Goal,
    seed: int,
    batch_size: int,
    progress: Progress | None,
) -> tuple[Tensor, Tensor]:
    """The attacked images, and for which of them there is none."""
    attacked = pool.images.clone()
    broken = torch.zeros(len(attacked), dtype=torch.bool, device=attacked.device)
    wrong = goal.reached(pool.predicted) | (pool.predicted != goal.labels)
    todo = ~wrong if attack.skips_misclassified else torch.ones_like(wrong)
    rows = todo.nonzero().squeeze(1)
    done = len(attacked) - len(rows)
    # no rows are one batch of none
    for number, batch in enumerate(rows.split(batch_size) if len(rows) else ()):
        own_seed = derived_seed(seed, number)
        with undisturbed(model, attacked.device, own_seed, every_device=attack.seeds_every_device):
            found = attack.perturb(model, pool.images[batch], goal.take(batch), pool)
        finite = found.isfinite().flatten(1).all(1)
        attacked[batch[finite]] = found[finite].detach().clamp(0, 1)
        broken[batch[~finite]] = True
        done += len(batch)
        if progress is not None:
            progress(done, len(attacked))
    return attacked, broken


def _key(
    attack: Attack, model: nn.Module, pool: Pool, goal: Goal, seed: int, batch_size: int
) -> str:
    """What attacked images are made of."""
    text = {
        "attack": attack.name,
        "release": attack.release,
        "settings": attack.settings,
        "seed": seed,
        "batch_size": batch_size,
        "model": [type(module).__qualname__ for module in model.modules()],
    }
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    # weights do not tell what is done with them
    tensors |= {"images": pool.images, "predicted": pool.predicted, "labels": goal.labels}
    if goal.targets is not None:
        tensors["targets"] = goal.targets
    return content_hash(text, tensors)


def _check(attack: Attack, model: nn.Module, images: Tensor, goal: Goal) -> None:
    """Check what a user gives."""
    if images.dim() != 4 or images.dtype != torch.float32 or not len(images):
        raise UsageError(
            f"images are N×C×H×W of float32, not {tuple(images.shape)} of {images.dtype}"
        )
    # NaN is in no range
    if not bool(((images >= 0) & (images <= 1)).all()):
        raise UsageError(
            "images have pixels that are not from 0 to 1; attacks work on pixels: put the "
            "normalization into the model with PixelModel(model, mean, std)"
        )
    for name, classes in (("labels", goal.labels), ("targets", goal.targets)):
        if classes is not None and (
            classes.shape != images.shape[:1] or classes.dtype != torch.int64
        ):
            raise UsageError(
                f"{name} are {tuple(classes.shape)} of {classes.dtype}: give an int64 for each "
                f"of {len(images)} images"
            )
    if goal.targets is not None and not attack.can_target:
        raise UsageError(f"{attack.name} cannot be targeted; leave out targets")
    if goal.targets is not None and bool((goal.targets == goal.labels).any()):
        raise UsageError("targets must be other classes than labels")
    devices = {tensor.device for tensor in model.state_dict().values()}
    if devices - {images.device}:
        raise UsageError(
            f"the model is on {', '.join(sorted(map(str, devices)))} and images are on "
            f"{images.device}; move one of them"
        )
