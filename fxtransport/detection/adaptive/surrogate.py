"""An attacker's own detector of one class, which has gradients."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from fxtransport.errors import UsageError

Transform = Callable[[Tensor], Tensor]
"""Of features, B×F, elementwise."""
FEWEST = 20
"""Images of a predicted class from which it has a center of its own."""


@dataclass(frozen=True, eq=False)
class Surrogate:
    """The Mahalanobis distance of features from those of clean images of the predicted class.

    An attacker who has clean images, but not the parameters of the detector, fits it on them, to
    take the place of any detector that is fitted on clean images alone.

    Attributes:
        centers: The center of each class, classes×F; that of all images where a class has few.
        whitening: F×F; the Euclidean distance after it is Mahalanobis'.
        transform: What is done to features first.
    """

    centers: Tensor
    whitening: Tensor
    transform: Transform

    @classmethod
    def fit(cls, logits: Tensor, features: Tensor, transform: Transform | None = None) -> Self:
        """Fit on clean images.

        Args:
            logits: N×classes.
            features: N×F, such as the 2M transport features.
            transform: What is done to features first; by default :func:`log_energies`.

        Raises:
            UsageError: there are fewer than 20 images.
        """
        from sklearn.covariance import ledoit_wolf

        if len(features) < FEWEST:
            raise UsageError(f"{len(features)} clean images are too few to fit on; give {FEWEST}")
        transform = transform or log_energies
        rows = transform(features.detach()).double()
        predicted = logits.argmax(1)
        common = rows.mean(0)
        centers = torch.stack(
            [
                rows[predicted == number].mean(0)
                if int((predicted == number).sum()) >= FEWEST
                else common
                for number in range(logits.shape[1])
            ]
        )
        around = rows - centers[predicted]
        scale = around.std(0)
        scale = scale.where(scale > 0, 1)
        covariance, _ = ledoit_wolf((around / scale).cpu().numpy(), assume_centered=True)
        values, vectors = torch.linalg.eigh(torch.as_tensor(covariance, device=rows.device))
        floor = values.max() * torch.finfo(torch.float32).eps
        whitening = vectors / values.clamp(min=floor).sqrt() / scale[:, None]
        return cls(centers.to(features), whitening.to(features), transform)

    def __call__(self, logits: Tensor, features: Tensor) -> Tensor:
        """The distances of B images, with gradients: B, the larger the more suspicious."""
        around = self.transform(features) - self.centers[logits.argmax(1)]
        # not norm, whose gradient at 0 is NaN
        return (around @ self.whitening).square().sum(1).add(1e-12).sqrt()


def log_energies(features: Tensor) -> Tensor:
    """Transport features, B×2M, with the logarithm of each energy, in columns 0, 2, 4 and on."""
    tiny = torch.finfo(torch.float32).tiny
    energies = features[:, ::2].clamp(min=tiny).log()
    return torch.stack([energies, features[:, 1::2]], 2).flatten(1)
