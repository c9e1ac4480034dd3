"""A row for each image, a column for each block, and the way of all below."""

import pytest
import torch

from fxtransport.errors import UsageError
from fxtransport.ot.clouds import Movement
from fxtransport.report.decoded_pictures import draw_decoded

MOVEMENTS = [Movement("a", 0, 2.0, 1.5, 0.1), Movement("b", 1, 3.0, 3.0, 0.0)]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_grid(channels: int) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra 'plots'")
    columns = [torch.rand(3, channels, 4, 4) for _ in range(4)]
    figure = draw_decoded(columns, MOVEMENTS)
    *grid, below = figure.axes
    assert [axis.get_title() for axis in grid if axis.get_title()] == [
        "image",
        "encoder",
        "block 1",
        "block 2",
    ]
    shown = [axis.images[0].get_array() for axis in grid]
    assert len(shown) == 12
    for place, found in enumerate(shown):
        column, row = divmod(place, 3)
        expected = columns[column][row].movedim(0, -1).squeeze(-1)
        assert torch.equal(torch.as_tensor(found.data), expected)
    way, least = ([*line.get_ydata()] for line in below.lines)
    assert (way, least) == ([2.0, 3.0], [1.5, 3.0])


def test_other_channels() -> None:
    pytest.importorskip("matplotlib", reason="needs the extra 'plots'")
    with pytest.raises(UsageError, match="1 or 3 channels can be drawn, not with 4"):
        draw_decoded([torch.zeros(1, 4, 2, 2)] * 3, MOVEMENTS)
