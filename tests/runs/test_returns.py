"""Models that return something else than logits are refused by what they return."""

from pathlib import Path

import pytest

from fxtransport.errors import TraceError, UsageError
from fxtransport.runs.config import complete_config
from fxtransport.runs.recipe import make_recipe

FILE = '''
import torch
from torch import nn

class Detector(nn.Module):
    """Returns boxes whose number depends on the image."""

    def __init__(self, named=True):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.named = named

    def forward(self, x):
        found = self.conv(x).mean((2, 3))
        places = torch.nonzero(found > 0)
        if not self.named:
            return places
        return [{"boxes": places, "scores": each} for each in found]

class Segmenter(nn.Module):
    """A class for each position."""

    def __init__(self, classes=10):
        super().__init__()
        self.conv, self.out = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, classes, 1)
        self.same = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        x = self.conv(x)
        return {"out": self.out(x + self.same(x).relu())}

class Tokens(Segmenter):
    """Numbers for each position, in a row."""

    def forward(self, x):
        return super().forward(x)["out"].flatten(2).transpose(1, 2)
'''


@pytest.mark.parametrize(
    ("factory", "options", "kind", "words"),
    [
        ("Detector", {}, UsageError, "returns boxes, scores of what it finds in an image"),
        ("Detector", {"named": False}, TraceError, "data-dependent"),
        ("Segmenter", {}, UsageError, "returns 10×8×8 for each image, as models do that segment"),
        ("Segmenter", {"classes": 3}, UsageError, "returns 3×8×8 for each image"),
        ("Tokens", {}, UsageError, "returns 64×10 for each image"),
    ],
)
def test_what_is_no_classifier_is_refused_by_what_it_returns(
    tmp_path: Path,
    factory: str,
    options: dict[str, object],
    kind: type[Exception],
    words: str,
) -> None:
    (tmp_path / "nets.py").write_text(FILE)
    values = {
        "model.name": f"{tmp_path / 'nets.py'}:{factory}",
        "model.input_size": "1,8,8",
        "model.options": options,
        "objective.method": "e2e",
        "trainer.device": "cpu",
    }
    recipe = make_recipe(complete_config(values))
    with pytest.raises(kind, match=words):
        recipe.program()
