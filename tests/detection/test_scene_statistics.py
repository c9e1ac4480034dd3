"""The statistics by matrices are those that are convolved."""

import pytest
import torch

from fxtransport.detection.nss import nss
from fxtransport.detection.scene_statistics import SceneStatistics
from fxtransport.errors import UsageError


@pytest.mark.parametrize("size", [(1, 8, 8), (3, 2, 3), (1, 1, 1), (3, 33, 17), (2, 5, 64)])
def test_both_agree(size: tuple[int, int, int]) -> None:
    images = torch.rand(4, *size, generator=torch.Generator().manual_seed(0))
    images = torch.cat([images, images.round(), torch.zeros(1, *size), torch.full((1, *size), 0.7)])
    found = SceneStatistics(*size[1:])(images)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, nss(images), rtol=1e-5, atol=1e-6)


def test_any_number_of_images_is_exported() -> None:
    module = SceneStatistics(12, 9)
    batch = torch.export.Dim.DYNAMIC
    program = torch.export.export(module, (torch.rand(3, 3, 12, 9),), dynamic_shapes=({0: batch},))
    images = torch.rand(70, 3, 12, 9)
    torch.testing.assert_close(program.module()(images), nss(images), rtol=1e-5, atol=1e-6)


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(UsageError, match="holds NaN or infinities"):
        SceneStatistics(4, 4)(torch.full((1, 1, 4, 4), torch.nan))
