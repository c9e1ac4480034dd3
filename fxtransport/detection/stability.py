"""How far logits and layers move when an image is made slightly darker, by random masks.

The logit-layer test of Yun et al., *A Few Large Shifts: Layer-Inconsistency Based Minimal Overhead
Adversarial Example Detection*, arXiv 2505.12586. It needs the model, so that its score is
observed, and :class:`~fxtransport.detection.inconsistency.LayerInconsistency` reads that.
"""

import torch
from torch import Tensor

from fxtransport.detection.extractor import Extractor
from fxtransport.detection.mahalanobis import names_of_layers
from fxtransport.errors import UsageError
from fxtransport.randomness import derived_seed

MASKS = 4
"""How many masks there are, as in the paper's experiments."""
STRENGTH = 0.1
"""By which share a pixel is darkened at most."""

_TINY = 1e-8


class LogitStability:
    """The logit-layer test, for ``Extractor.observe(…, further={"stability": …})``.

    An image is multiplied by G masks. With p the softmax of the logits of the image and p_g that
    of the masked one, o the predicted class as a vector of zeros and a one, H the entropy, and a_l
    the activations of layer l averaged over space, the score is the mean over masks and layers of
    log(mean (p_g - o)² · H(p)) - log(mean (a_l,g - a_l)²): how far the prediction moves, measured
    by how far the layers do.

    The paper learns its masks, which stay close to one, by gradients on clean images. Here they
    are drawn, each pixel of each channel uniformly from 1 - strength to 1, so that nothing has to
    be learned or saved, and masked pixels stay in [0, 1].

    Args:
        extractor: Of the model.
        masks: How many there are: G.
        strength: Above 0, and 1 at most.
        seed: Determines the masks.

    Raises:
        UsageError: there is no mask, or the strength is out of range.
    """

    def __init__(
        self, extractor: Extractor, masks: int = MASKS, strength: float = STRENGTH, seed: int = 0
    ) -> None:
        if masks < 1 or not 0 < strength <= 1:
            raise UsageError(
                f"masks is 1 or more and strength above 0 and 1 at most, not {masks} and {strength}"
            )
        self._extractor = extractor
        self._masks, self._strength, self._seed = masks, strength, seed

    def masks(self, images: Tensor) -> Tensor:
        """The masks of B images of C×H×W, on their device: G×C×H×W."""
        # not the global generator, and the same masks on every device
        generator = torch.Generator().manual_seed(derived_seed(self._seed) >> 1)
        drawn = torch.rand((self._masks, *images.shape[1:]), generator=generator)
        return (1 - self._strength * drawn).to(images)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """The scores of B images: B×1."""
        plain = self._extractor(images)
        names = names_of_layers(plain)
        softmax = plain["logits"].softmax(1)
        chosen = torch.zeros_like(softmax).scatter_(1, softmax.argmax(1, keepdim=True), 1.0)
        entropy = torch.special.entr(softmax).sum(1)
        found = []
        for mask in self.masks(images):
            masked = self._extractor(images * mask)
            moved = (masked["logits"].softmax(1) - chosen).square().mean(1) * entropy
            for name in names:
                layer = (masked[name] - plain[name]).square().mean(1)
                found.append((moved + _TINY).log() - (layer + _TINY).log())
        return torch.stack(found, 1).mean(1, keepdim=True)
