"""Detectors of pytorch-ood that read logits."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fxtransport.detection.checks import State
from fxtransport.detection.detector import Classes
from fxtransport.detection.observations import Observations
from fxtransport.detection.ood import LogitsDetector, Option, numbers, tensor
from fxtransport.errors import UsageError

TEMPERATURE = Option(1.0, 1e-6, 1e6)


class Energy(LogitsDetector):
    """-T log Σ exp(logit/T): Energy-based Out-of-distribution Detection, NeurIPS 2020."""

    name: ClassVar[str] = "energy"
    other: ClassVar[str] = "EnergyBased"
    options: ClassVar[Mapping[str, Option]] = {"t": TEMPERATURE}


class MaxSoftmax(LogitsDetector):
    """The largest probability, negative: A Baseline for Detecting Misclassified, ICLR 2017."""

    name: ClassVar[str] = "max-softmax"
    other: ClassVar[str] = "MaxSoftmax"
    options: ClassVar[Mapping[str, Option]] = {"t": TEMPERATURE}


class MaxLogit(LogitsDetector):
    """The largest logit, negative: Scaling OOD Detection for Real-World Settings, ICML 2022."""

    name: ClassVar[str] = "max-logit"
    other: ClassVar[str] = "MaxLogit"


class Entropy(LogitsDetector):
    """The entropy of the probabilities: Entropy Maximization and Meta Classification, ICCV 2021."""

    name: ClassVar[str] = "entropy"
    other: ClassVar[str] = "Entropy"


class GEN(LogitsDetector):
    """A generalized entropy: GEN, CVPR 2023; the mean over classes in place of the sum."""

    name: ClassVar[str] = "gen"
    other: ClassVar[str] = "GEN"
    options: ClassVar[Mapping[str, Option]] = {"gamma": Option(0.1, 1e-6, 1e3)}


class KLMatching(LogitsDetector):
    """The least divergence from the mean probabilities of a class, of those predicted.

    Scaling Out-of-Distribution Detection for Real-World Settings, ICML 2022.
    """

    name: ClassVar[str] = "kl-matching"
    other: ClassVar[str] = "KLMatching"

    def _learn(self, made: Any, clean: Observations, classes: Classes | None) -> None:
        made.fit_logits(torch.from_numpy(clean["logits"].copy()))

    def _learned(self, made: Any) -> dict[str, NDArray[Any]]:
        return {"distributions": np.stack([numbers(each) for each in made.dists.values()])}

    def _restore(self, made: Any, state: State) -> None:
        found = state.array("distributions", np.float32, None, None)
        if not len(found) or found.min() < 0:
            raise UsageError("the array 'distributions' holds no probabilities")
        rows = {str(k): nn.Parameter(tensor(row), False) for k, row in enumerate(found)}
        made.dists = nn.ParameterDict(rows)
