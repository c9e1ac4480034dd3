"""Clouds are the hidden states, and are drawn where they are of the plane."""

import pytest
import torch
from torch import nn

from fxtransport import transportify
from fxtransport.errors import UsageError
from fxtransport.nets import circles_resnet
from fxtransport.ot.clouds import cloud_movements
from fxtransport.report.cloud_pictures import clouds_of, draw_clouds
from tests.training.runs import calm

POINTS = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
CLASSES = torch.arange(30) % 2


def test_clouds_are_what_the_blocks_return() -> None:
    torch.manual_seed(0)
    model = circles_resnet(blocks=3)
    program = transportify(model, POINTS[:2], verify=False)
    given: list[torch.Tensor] = [POINTS]
    for block in next(m for m in model.modules() if isinstance(m, nn.Sequential) and len(m) == 3):
        given.append(block(given[-1]).detach())
    found = clouds_of(program, POINTS)
    assert len(found) == 4
    for cloud, expected in zip(found, given, strict=True):
        torch.testing.assert_close(cloud, expected)


def test_a_panel_for_each_cloud_and_one_for_depth() -> None:
    pytest.importorskip("matplotlib", reason="needs the extra 'plots'")
    program = transportify(circles_resnet(blocks=3), POINTS[:2], verify=False)
    movements = cloud_movements(program, POINTS)
    figure = draw_clouds(clouds_of(program, POINTS), CLASSES, movements)
    assert [axis.get_title() for axis in figure.axes] == [
        "before block 1",
        "after block 1",
        "after block 2",
        "after block 3",
        "along depth",
    ]
    assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [15, 15]
    way, least = (line.get_ydata() for line in figure.axes[-1].lines)
    assert all(a >= b for a, b in zip(way, least, strict=True))


def test_images_have_depth_alone() -> None:
    pytest.importorskip("matplotlib", reason="needs the extra 'plots'")
    images = torch.randn(6, 2, 6, 6)
    program = transportify(calm(), images[:2], verify=False)
    figure = draw_clouds(
        clouds_of(program, images), torch.zeros(6), cloud_movements(program, images)
    )
    assert [axis.get_title() for axis in figure.axes] == ["along depth"]


def test_nothing_to_draw() -> None:
    with pytest.raises(UsageError, match="no residual block"):
        draw_clouds([], CLASSES, [])
