"""The measured palette: which colours a picture is made of, and how much of it each covers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deployments.types import Swatch

_COUNTED_EVERY_PX = 2
"""Every second pixel of every second row is counted: the shares change by under a percent, the time by a factor."""

_LEVELS = 8
"""Per channel, in the histogram; a cell's colour is the mean of its pixels, so it is finer than the cell."""

_SAME_COLOUR_DISTANCE = 3 * 24**2
"""Squared distance in RGB below which two colours read as one: about 24 levels in each channel."""


def measure_palette(pixels: NDArray[np.uint8], colours: int) -> tuple[Swatch, ...]:
    """Find a picture's main colours: the densest spots of its RGB histogram, each with all that reads as the same.

    Args:
        pixels: uint8, (height, width, 3), RGB.
        colours: how many at most.

    Returns:
        Swatches by falling share; the shares add up to at most 1.
    """
    means, counts = _histogram(pixels[::_COUNTED_EVERY_PX, ::_COUNTED_EVERY_PX].reshape(-1, 3))
    squares = (means**2).sum(axis=1)
    alike = squares[:, None] + squares - 2 * means @ means.T < _SAME_COLOUR_DISTANCE
    total = counts.sum()
    left = counts.copy()
    swatches: list[Swatch] = []
    while len(swatches) < colours and left.any():
        members = left * alike[np.argmax(alike @ left)]
        share = members.sum()
        red, green, blue = np.rint(members @ means / share).astype(int)
        swatches.append(Swatch(f"#{red:02x}{green:02x}{blue:02x}", round(float(share / total), 4)))
        left -= members
    return tuple(swatches)


def _histogram(colours: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Count colours in cells: the mean colour of each cell that holds any, (cells, 3), and how many it holds."""
    red, green, blue = (colours // (256 // _LEVELS)).astype(np.intp).T
    cells = (red * _LEVELS + green) * _LEVELS + blue
    counts = np.bincount(cells)
    sums = np.stack([np.bincount(cells, weights=channel) for channel in colours.T], axis=1)
    held = counts > 0
    return sums[held] / counts[held, None], counts[held].astype(np.float64)
