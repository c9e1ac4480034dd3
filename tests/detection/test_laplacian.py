import pytest
import torch

from fxtransport.detection.laplacian import laplacian
from fxtransport.errors import UsageError


def test_numbers_by_hand() -> None:
    """One bright pixel amid nine: −4 there, 1 at its four neighbors, 0 at the corners."""
    image = torch.zeros(1, 1, 3, 3)
    image[0, 0, 1, 1] = 1
    expected = torch.tensor([[8 / 9, (20 / 9) ** 0.5, 0.0]])
    torch.testing.assert_close(laplacian(image), expected)


def test_the_border_is_repeated() -> None:
    """A ramp 0, 1, 2 has its outer columns beside themselves: 1, 0, −1."""
    ramp = torch.arange(3.0).expand(1, 1, 3, 3) / 2
    torch.testing.assert_close(laplacian(ramp)[0, 0], torch.tensor(1 / 3))


def test_the_lowest_tenth() -> None:
    """With 20 pixels it is the second smallest."""
    image = torch.rand(1, 1, 4, 5, generator=torch.Generator().manual_seed(0))
    around = torch.nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")[0, 0]
    found = sorted(
        abs(
            around[y - 1, x] + around[y + 1, x] + around[y, x - 1] + around[y, x + 1]
            - 4 * around[y, x]
        ).item()
        for y in range(1, 5)
        for x in range(1, 6)
    )  # fmt: skip
    assert laplacian(image)[0, 2].item() == pytest.approx(found[1], abs=1e-6)


def test_flat_images_and_none() -> None:
    assert laplacian(torch.full((2, 3, 4, 4), 0.3)).abs().max() < 1e-6
    assert laplacian(torch.zeros(0, 1, 8, 8)).shape == (0, 3)
    assert laplacian(torch.ones(1, 1, 1, 1)).tolist() == [[0, 0, 0]]


def test_images_that_are_no_numbers() -> None:
    with pytest.raises(UsageError, match="image 1 holds NaN"):
        laplacian(torch.stack([torch.zeros(1, 2, 2), torch.full((1, 2, 2), torch.nan)]))
