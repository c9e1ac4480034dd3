"""Natural scene statistics as a module that can be exported."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from fxtransport.detection.gray import gray
from fxtransport.detection.nss import LEVELS, Table, blurred, one_scale, resized, table


class SceneStatistics(nn.Module):
    """:func:`~fxtransport.detection.nss.nss` of images of one size, as onnxruntime can compute it.

    To blur and to halve an image is linear along each of its axes: here, a product of matrices in
    float64, which onnxruntime has, where its convolutions are of float32. Both agree up to
    rounding.

    Args:
        height: Of the images.
        width: Of the images.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        for axis, size in (("rows", height), ("columns", width)):
            half = max(1, size // 2)
            self.register_buffer(f"blur_{axis}", _matrix(blurred, size))
            self.register_buffer(
                f"halve_{axis}", _matrix(partial(resized, height=half, width=1), size)
            )
            self.register_buffer(f"blur_half_{axis}", _matrix(blurred, half))
        for name, values in table(torch.device("cpu"))._asdict().items():
            self.register_buffer(name, values.clone())

    def forward(self, images: Tensor) -> Tensor:
        """The statistics of images, B×C×H×W, pixels from 0 to 1: B×36, float32."""
        known = Table(*(self.get_buffer(name) for name in Table._fields))
        values = gray(images).double() * LEVELS
        smaller = self._product("halve", values)
        first = one_scale(values, lambda each: self._product("blur", each), known)
        second = one_scale(smaller, lambda each: self._product("blur_half", each), known)
        return torch.cat([first, second], 1).float()

    def _product(self, name: str, values: Tensor) -> Tensor:
        """A linear map of the rows and of the columns of images."""
        rows, columns = (self.get_buffer(f"{name}_{axis}") for axis in ("rows", "columns"))
        return rows @ values @ columns.T


def _matrix(linear: Callable[[Tensor], Tensor], size: int) -> Tensor:
    """The matrix of a linear map of images, along their height: new size × size, float64."""
    columns = torch.eye(size, dtype=torch.float64).view(size, 1, size, 1)
    return linear(columns)[:, 0, :, 0].T.contiguous()
