"""The measured palette: which colours a picture is made of, and how much of it each covers."""

from __future__ import annotations

import numpy as np
from PIL import Image

from deployments.messages import Swatch

# Colours that median cut may tell apart before near ones are merged, and the edge the picture is counted at: the
# shares change by under a percent above it, the time grows with its square.
_QUANTIZED_COLOURS = 16
_COUNTED_EDGE_PX = 96

# Squared distance in RGB below which two colours read as one: about 24 levels in each channel.
_SAME_COLOUR_DISTANCE = 3 * 24**2


def measure_palette(picture: Image.Image, colours: int) -> tuple[Swatch, ...]:
    """Find a picture's main colours, by median cut (Heckbert 1982) with near colours merged.

    Args:
        picture: RGB.
        colours: how many at most.

    Returns:
        Swatches by falling share; the shares add up to at most 1.
    """
    small = picture.resize((_COUNTED_EDGE_PX, _COUNTED_EDGE_PX), Image.Resampling.BOX)
    quantized = small.quantize(_QUANTIZED_COLOURS, Image.Quantize.MEDIANCUT, kmeans=1)
    table = quantized.getpalette() or []
    counts = np.bincount(np.asarray(quantized).ravel())

    merged: list[tuple[tuple[int, int, int], int]] = []
    for index in np.argsort(-counts, kind="stable"):
        red, green, blue = table[3 * index : 3 * index + 3]
        count = int(counts[index])
        for place, (other, total) in enumerate(merged):
            if (red - other[0]) ** 2 + (green - other[1]) ** 2 + (blue - other[2]) ** 2 < _SAME_COLOUR_DISTANCE:
                merged[place] = (other, total + count)
                break
        else:
            merged.append(((red, green, blue), count))

    merged.sort(key=lambda entry: -entry[1])
    pixels = _COUNTED_EDGE_PX**2
    return tuple(Swatch("#{:02x}{:02x}{:02x}".format(*rgb), round(n / pixels, 4)) for rgb, n in merged[:colours] if n)
