"""The measured palette: which colours a picture is made of, and how much of it each covers."""

from __future__ import annotations

import numpy as np
from PIL import Image

from deployments.types import Swatch

_COUNTED_EVERY_PX = 2
"""Every second pixel of every second row is counted: the shares change by under a percent, the time by a factor."""

_SAME_COLOUR_DISTANCE = 3 * 24**2
"""Squared distance in RGB below which two colours read as one: about 24 levels in each channel."""

_SECOND = 2.0**26
"""Two sums travel in one float64, the second times this: none of a picture of 1024x1024 reaches it."""


def measure_palette(image: Image.Image, colours: int) -> tuple[Swatch, ...]:
    """Find a picture's main colours: the densest spots of its RGB histogram, each with all that reads as the same.

    The histogram has eight levels per channel; a cell's colour is the mean of its pixels, so it is finer than the cell.
    No product of matrices here: BLAS would share these small ones among threads that wait for one another.

    Args:
        image: of mode RGB.
        colours: how many at most.

    Returns:
        Swatches by falling share; the shares add up to at most 1.
    """
    rows = np.frombuffer(image.tobytes("raw", "RGBX"), "<u4").reshape(image.height, image.width)
    packed = rows[::_COUNTED_EVERY_PX, ::_COUNTED_EVERY_PX].ravel()
    cells = (packed >> 5 & 0o7 | packed >> 10 & 0o70 | packed >> 15 & 0o700).astype(np.intp)
    red_green = np.bincount(cells, (packed & 0xFF) + (packed >> 8 & 0xFF) * _SECOND)
    blue_count = np.bincount(cells, (packed >> 16 & 0xFF) + _SECOND)
    held = blue_count.nonzero()[0]
    green, red = np.divmod(red_green[held], _SECOND)
    count, blue = np.divmod(blue_count[held], _SECOND)
    sums = np.array((red, green, blue, count), np.float32)
    left = sums[3].copy()
    distance = np.zeros((len(held), len(held)), np.float32)
    for mean in sums[:3] / left:
        apart = np.subtract.outer(mean, mean)
        distance += np.square(apart, out=apart)
    alike = (distance < _SAME_COLOUR_DISTANCE).astype(np.float32)
    swatches: list[Swatch] = []
    while len(swatches) < colours and left.any():
        members = alike[np.einsum("ij,j->i", alike, left).argmax()] * (left > 0)
        red, green, blue, count = np.einsum("ij,j->i", sums, members).tolist()
        swatches.append(
            Swatch(
                f"#{round(red / count):02x}{round(green / count):02x}{round(blue / count):02x}",
                round(count / len(packed), 4),
            )
        )
        left -= left * members
    return tuple(swatches)
