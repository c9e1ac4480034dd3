"""Penalties on logits and on weights."""

from typing import Any

import torch
import torch.nn.functional as F


def soft_divergence(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float
) -> torch.Tensor:
    """τ²·KL between softened outputs, averaged over the batch (Hinton et al. 2015; OT eq. 7).

    Args:
        student: Logits, B×classes.
        teacher: Logits, B×classes.
        temperature: τ.
    """
    own = F.log_softmax(student.float() / temperature, dim=-1)
    other = F.log_softmax(teacher.float() / temperature, dim=-1)
    return F.kl_div(own, other, reduction="batchmean", log_target=True) * temperature**2


def decayed(part: Any) -> torch.Tensor | None:
    """‖w‖²/2 of the parameters of a part that weight decay acts on: no biases, no norms."""
    excluded = part.no_weight_decay()
    values = [
        tensor.square().sum()
        for name, tensor in part.named_parameters()
        if tensor.dim() > 1 and tensor.requires_grad and name not in excluded
    ]
    return torch.stack(values).sum() / 2 if values else None
