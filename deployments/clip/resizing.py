"""Pictures as the square that a vision model looks at."""

from __future__ import annotations

import numpy as np
from PIL import Image

from deployments.types import Pixels


def to_square(picture: Pixels, edge_px: int, resample: int) -> Pixels:
    """Resize a picture, unless it is of this size already.

    Args:
        picture: of any size and shape.
        edge_px: of the square; the aspect is not kept.
        resample: the filter, as Pillow numbers them.

    Returns:
        uint8, (edge, edge, 3).
    """
    if picture.shape[:2] == (edge_px, edge_px):
        return picture
    return np.asarray(Image.fromarray(picture).resize((edge_px, edge_px), resample))
