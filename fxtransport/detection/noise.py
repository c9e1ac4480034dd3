"""Noisy copies of images, which count as clean: a detector shall find attacks, not noise."""

import torch
from torch import Tensor

from fxtransport.errors import UsageError
from fxtransport.randomness import derived_seed


def noisy_copies(images: Tensor, size: Tensor | float, seed: int) -> Tensor:
    """Images with Gaussian noise, as in THESIS 5.4 and by Lee et al. (2018).

    Args:
        images: N×C×H×W, pixels from 0 to 1.
        size: The Euclidean norm of the noise of each image, N, or of all: that of an attack's
            change makes them as far away as attacked images. Clipping to 0 to 1 makes it
            smaller.
        seed: Determines the noise.

    Returns:
        N×C×H×W, from 0 to 1.

    Raises:
        UsageError: a size is negative or not finite, or there is not one for each image.
    """
    sizes = torch.as_tensor(size, dtype=images.dtype, device=images.device)
    if sizes.dim() > 1 or (sizes.dim() == 1 and len(sizes) != len(images)):
        raise UsageError(f"{tuple(sizes.shape)} sizes of noise for {len(images)} images")
    if not bool((sizes.isfinite() & (sizes >= 0)).all()):
        raise UsageError("a size of noise is negative or not finite")
    # not the global generator, and the same noise on every device
    generator = torch.Generator().manual_seed(derived_seed(seed) >> 1)
    noise = torch.randn(images.shape, generator=generator, dtype=images.dtype).to(images.device)
    lengths = noise.flatten(1).norm(dim=1)
    scaled = noise * (sizes / lengths).reshape(-1, 1, 1, 1)
    noisy: Tensor = (images + scaled).clamp(0, 1)
    return noisy
