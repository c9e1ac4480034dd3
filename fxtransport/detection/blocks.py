"""Which columns of the transport features are what."""

import numpy as np
from numpy.typing import NDArray

from fxtransport.detection.observations import Array
from fxtransport.errors import UsageError


def costs(features: Array, directions: int) -> Array:
    """‖r_m‖²/d_m of each block.

    Args:
        features: N×M(1 + directions), the squared mean norm and the first cosine of each block in
            turn, and after these 2M columns the cosines to further directions.
        directions: To how many directions there are cosines.

    Returns:
        N×M.

    Raises:
        UsageError: the columns do not fit the number of directions.
    """
    columns = features.shape[1]
    blocks, rest = divmod(columns, 1 + directions)
    if rest or not blocks or directions < 1:
        raise UsageError(
            f"{columns} transport features are not those of whole blocks with cosines to "
            f"{directions} directions each"
        )
    return features[:, : 2 * blocks : 2]


def logarithmic(features: Array, directions: int) -> NDArray[np.float64]:
    """The features with the logarithms of the costs, whose distribution has a long tail: N×F.

    A cost of 0 is taken as the smallest normal float32.

    Raises:
        UsageError: the columns do not fit the number of directions.
    """
    found = features.astype(np.float64)
    blocks = costs(features, directions).shape[1]
    tiny = np.finfo(np.float32).tiny
    found[:, : 2 * blocks : 2] = np.log(np.maximum(found[:, : 2 * blocks : 2], tiny))
    return found
