"""A picture's shape as image generators are told it."""

from __future__ import annotations

import math

_WIDE = ((1, 1), (5, 4), (4, 3), (3, 2), (16, 9), (21, 9))
_USUAL = (*_WIDE, *((height, width) for width, height in _WIDE[1:]))


def usual_ratio(width_px: int, height_px: int) -> str:
    """Give the nearest of the usual ratios as `W:H`: whole numbers, since generators take no others."""
    width, height = min(_USUAL, key=lambda usual: abs(math.log(width_px * usual[1] / (height_px * usual[0]))))
    return f"{width}:{height}"
