"""Detectors of pytorch-ood that read what enters the classifier, and know the classifier."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from fxtransport.detection.checks import State
from fxtransport.detection.detector import Classes
from fxtransport.detection.head import Head
from fxtransport.detection.observations import Observations
from fxtransport.detection.ood import FeaturesDetector, Option, numbers, pytorch_ood, tensor
from fxtransport.errors import UsageError

_LARGEST = 1 << 24


class HeadDetector(FeaturesDetector):
    """One that is made with the classifier."""

    needs_head: ClassVar[bool] = True

    @property
    def _head(self) -> Head:
        assert self.head is not None
        return self.head

    def _made(self) -> Any:
        return pytorch_ood(self.other)(None, self._head.module(), **self.given)

    def _learn(self, made: Any, clean: Observations, classes: Classes | None) -> None:
        """Nothing."""

    def _shape(self, name: str) -> tuple[int, ...]:
        """The shape of an array that was learned, by the names of its dimensions."""
        classes, width = self._head.weight.shape
        return {"C": (classes,), "F": (width,), "CF": (classes, width), "FF": (width, width)}[name]


class AttributesDetector(HeadDetector):
    """One that keeps what it learned in attributes of fixed shapes."""

    attributes: ClassVar[Mapping[str, str]]
    """The attributes, and their dimensions: C classes, F features."""

    def _learn(self, made: Any, clean: Observations, classes: Classes | None) -> None:
        made.fit_features(self._features(clean), torch.zeros(len(clean), dtype=torch.int64))

    def _learned(self, made: Any) -> dict[str, NDArray[Any]]:
        return {name.strip("_"): numbers(getattr(made, name)) for name in self.attributes}

    def _restore(self, made: Any, state: State) -> None:
        for name, dimensions in self.attributes.items():
            shape = self._shape(dimensions)
            setattr(made, name, tensor(state.array(name.strip("_"), np.float32, *shape)))


class ViM(HeadDetector):
    """The energy, minus what lies outside of the main directions: CVPR 2022.

    Options:
        d: How many main directions there are; 0 for half of the features.
    """

    name: ClassVar[str] = "vim"
    other: ClassVar[str] = "ViM"
    options: ClassVar[Mapping[str, Option]] = {"d": Option(0, 0, _LARGEST, whole=True)}

    def _made(self) -> Any:
        width = self._head.weight.shape[1]
        d = int(self.given["d"]) or width // 2
        if not 0 < d < width:
            raise UsageError(f"d is from 1 to {width - 1} for {width} features, not {d}")
        made = pytorch_ood(self.other)(None, d, tensor(self._head.weight), tensor(self._head.bias))
        made.alpha = 0.0
        return made

    def _learn(self, made: Any, clean: Observations, classes: Classes | None) -> None:
        made.fit_features(self._features(clean), torch.zeros(len(clean)))

    def _learned(self, made: Any) -> dict[str, NDArray[Any]]:
        alpha = np.asarray([made.alpha], dtype=np.float64)
        return {"subspace": numbers(made.principal_subspace), "alpha": alpha}

    def _restore(self, made: Any, state: State) -> None:
        width = self._head.weight.shape[1]
        made.principal_subspace = tensor(state.array("subspace", np.float32, width, width - made.d))
        made.alpha = float(state.array("alpha", np.float64, 1)[0])


class ReAct(HeadDetector):
    """The energy of features that are cut off at a quantile of all: NeurIPS 2021."""

    name: ClassVar[str] = "react"
    other: ClassVar[str] = "ReAct"
    options: ClassVar[Mapping[str, Option]] = {"percentile": Option(0.9)}

    def _learn(self, made: Any, clean: Observations, classes: Classes | None) -> None:
        made.fit_feature_maps(self._features(clean), torch.zeros(len(clean)))

    def _learned(self, made: Any) -> dict[str, NDArray[Any]]:
        return {"cutoff": np.asarray([made.threshold], dtype=np.float64)}

    def _restore(self, made: Any, state: State) -> None:
        made.threshold = float(state.array("cutoff", np.float64, 1)[0])

    def _scored(self, made: Any, rows: torch.Tensor) -> Any:
        return made.predict_feature_maps(rows)


class VRA(ReAct):
    """The energy of features that are cut off at two quantiles each: NeurIPS 2023."""

    name: ClassVar[str] = "vra"
    other: ClassVar[str] = "VRA"
    options: ClassVar[Mapping[str, Option]] = {
        "lower_percentile": Option(0.01),
        "upper_percentile": Option(0.99),
    }

    def _learned(self, made: Any) -> dict[str, NDArray[Any]]:
        return {name: numbers(getattr(made, f"_{name}")) for name in _CUTOFFS}

    def _restore(self, made: Any, state: State) -> None:
        for name in _CUTOFFS:
            setattr(made, f"_{name}", tensor(state.array(name, np.float32, *self._shape("F"))))


_CUTOFFS = ("lower_threshold", "upper_threshold")


class DICE(AttributesDetector):
    """The energy by the weights that matter most: ECCV 2022.

    Options:
        p: The share of weights that is left out.
    """

    name: ClassVar[str] = "dice"
    other: ClassVar[str] = "DICE"
    options: ClassVar[Mapping[str, Option]] = {"p": Option(0.7)}
    attributes: ClassVar[Mapping[str, str]] = {"masked_w": "CF"}

    def _made(self) -> Any:
        weight, bias = tensor(self._head.weight), tensor(self._head.bias)
        return pytorch_ood(self.other)(None, weight, bias, **self.given)


class FDBD(AttributesDetector):
    """The distance to decision boundaries, relative to that to the mean: ICML 2024."""

    name: ClassVar[str] = "fdbd"
    other: ClassVar[str] = "fDBD"
    attributes: ClassVar[Mapping[str, str]] = {"train_mean": "F"}

    def _made(self) -> Any:
        made = super()._made()
        weight = tensor(self._head.weight)
        # its own way takes C×C×F numbers
        between = torch.cdist(weight, weight, compute_mode="donot_use_mm_for_euclid_dist")
        made._denom_matrix = between.fill_diagonal_(1.0)
        return made

    def _learn(self, made: Any, clean: Observations, classes: Classes | None) -> None:
        made.train_mean = self._features(clean).mean(dim=0)


class NCI(AttributesDetector):
    """How well features align with the weights of their class: CVPR 2025."""

    name: ClassVar[str] = "nci"
    other: ClassVar[str] = "NCI"
    options: ClassVar[Mapping[str, Option]] = {"alpha": Option(0.0, 0.0, 1e3)}
    attributes: ClassVar[Mapping[str, str]] = {"global_mean": "F"}


class PNML(AttributesDetector):
    """The regret of the predictive normalized maximum likelihood learner: NeurIPS 2021."""

    name: ClassVar[str] = "pnml"
    other: ClassVar[str] = "PNML"
    attributes: ClassVar[Mapping[str, str]] = {"_feature_projector": "FF"}


class SHE(AttributesDetector):
    """The product with the mean features of the predicted class, negative: ICLR 2023."""

    name: ClassVar[str] = "she"
    other: ClassVar[str] = "SHE"
    attributes: ClassVar[Mapping[str, str]] = {"patterns": "CF"}

    def _learn(self, made: Any, clean: Observations, classes: Classes | None) -> None:
        features = self._features(clean)
        predicted = self._head.module()(features).argmax(1)
        missing = sorted(set(range(len(self._head.bias))) - set(predicted.tolist()))
        if missing:
            raise UsageError(
                f"{self.name} needs a clean image of each class; of class {missing[0]} there is "
                f"none ({len(missing)} of {len(self._head.bias)} classes have none)"
            )
        made.fit_features(features, predicted)


class NNGuide(HeadDetector):
    """The energy, weighted by the similarity to clean features: ICCV 2023."""

    name: ClassVar[str] = "nnguide"
    other: ClassVar[str] = "NNGuide"
    options: ClassVar[Mapping[str, Option]] = {"k": Option(10, 1, 1_000_000, whole=True)}

    def _learn(self, made: Any, clean: Observations, classes: Classes | None) -> None:
        made.fit_features(self._features(clean), torch.zeros(len(clean)))

    def _learned(self, made: Any) -> dict[str, NDArray[Any]]:
        return {"bank": numbers(made._scaled_features)}

    def _restore(self, made: Any, state: State) -> None:
        bank = state.array("bank", np.float32, None, *self._shape("F"))
        if len(bank) < made.k:
            raise UsageError(f"the array 'bank' has {len(bank)} rows, fewer than k={made.k}")
        made._scaled_features = tensor(bank)

    def _numbers_per_row(self, width: int) -> int:
        return max(width, len(self.own._scaled_features))


class LTS(HeadDetector):
    """The energy of logits scaled by the largest features: Logit Scaling, 2025."""

    name: ClassVar[str] = "lts"
    other: ClassVar[str] = "LTS"
    options: ClassVar[Mapping[str, Option]] = {"p": Option(0.05)}


class ASH(HeadDetector):
    """The energy of the largest features, scaled: ICLR 2023, ASH-S."""

    name: ClassVar[str] = "ash"
    other: ClassVar[str] = "ASH"
    options: ClassVar[Mapping[str, Option]] = {"percentile": Option(0.65)}

    def _made(self) -> Any:
        head = torch.nn.Sequential(torch.nn.Flatten(), self._head.module())
        return pytorch_ood(self.other)(None, head, **self.given)

    def _scored(self, made: Any, rows: torch.Tensor) -> Any:
        return made.predict_feature_maps(rows[:, :, None, None])


class SCALE(ASH):
    """The energy of features that are all scaled: ICLR 2024."""

    name: ClassVar[str] = "scale"
    other: ClassVar[str] = "SCALE"


class GradNorm(HeadDetector):
    """The gradient of the classifier toward equal probabilities, negative: NeurIPS 2021."""

    name: ClassVar[str] = "gradnorm"
    other: ClassVar[str] = "GradNorm"
    options: ClassVar[Mapping[str, Option]] = {"temperature": Option(1.0, 1e-6, 1e6)}

    def _made(self) -> Any:
        return pytorch_ood(self.other)(self._head.module(), **self.given)

    def _scored(self, made: Any, rows: torch.Tensor) -> Any:
        return made.predict(rows)
