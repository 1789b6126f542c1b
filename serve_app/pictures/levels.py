"""What the numbers of a picture mean: which are black and white, and which are to be seen through."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImagePalette, TiffImagePlugin

from deployments.errors import UnreadablePicture

Range = tuple[float, float]
"""The values that stand for black and white."""

_WHITE = (255, 255, 255)

_FULL_SCALES = (1.0, 255.0, 65535.0)
"""What white is written as: in floating point, in 8 bits, in 16."""

_TWELVE_BITS = 4095
"""White of many cameras and microscopes, which write their values into 16 bits of a TIFF as they are."""

_FLOAT_HEADROOM = 2
"""Highlights of a float picture may pass white; by more than this it is of another scale."""

_BITS, _PHOTOMETRIC, _COLOUR_MAP, _SAMPLE_FORMAT = 258, 262, 320, 339
_WHITE_IS_ZERO, _UNSIGNED = 0, 1
"""TIFF's tags, and values of the second and last."""

_32_BITS = 2.0**32 - 1

TiffImagePlugin.OPEN_INFO[(b"MM", _WHITE_IS_ZERO, (1,), 1, (16,), ())] = ("I;16B", "I;16B")
"""Pillow knows this kind in the other byte order alone."""

TiffImagePlugin.READ_LIBTIFF = True
"""Pillow's own reader takes 16 bits a channel for 8, where the channels come one after another."""

_SWAPPED = {"F;32BF": "F;32F", "I;32BS": "I;32S", "I;16BS": "I;16S"}
"""How Pillow takes what libtiff gives, as if that were not in the machine's byte order already → as it is."""


def take_levels_as_they_come(image: Image.Image) -> None:
    """Mend how a TIFF that is open, and not loaded yet, is to be read."""
    if image.format == "TIFF" and sys.byteorder == "little":
        (tile,) = image.tile  # type: ignore[attr-defined]
        rawmode, *rest = tile.args
        image.tile = [tile._replace(args=(_SWAPPED.get(rawmode, rawmode), *rest))]  # type: ignore[attr-defined]


def averageable(image: Image.Image, drawn: tuple[int, int, int, int] | None) -> tuple[Image.Image, Range | None]:
    """Convert what has no values in between: palettes, single bits, and a colour that stands for transparency.

    Args:
        image: loaded.
        drawn: left, top, right and bottom of what a GIF draws, in pixels; the rest of its canvas is transparent.

    Returns:
        The picture, and which of its values are black and white where it is not of 8 bits.
    """
    if drawn and drawn != (0, 0, *image.size):
        return _without_canvas(image, drawn), None
    if image.mode in ("P", "PA"):
        return _without_palette(image), None
    if image.mode in ("1", "L", "RGB") and "transparency" in image.info:
        return (image.convert("L") if image.mode == "1" else image).convert("RGBA"), None
    if image.mode == "1":
        return image.convert("L"), None
    if image.mode == "La":
        return image.convert("LA"), None
    if image.mode == "RGBA" and image.format == "BMP" and image.getextrema()[-1] == (0, 0):
        return image.convert("RGB"), None  # A picture of which nothing is to be seen was not meant so.
    if image.mode.startswith("I;16"):
        return _of_sixteen_bits(image)
    if image.mode == "I":
        return _of_32_bits(image)
    if image.mode == "RGB" and _is_of_twelve_bits(image):
        return image.point(([16 * level + 8 for level in range(16)] + [255] * 240) * 3), None
    if image.mode == "F":
        finite, lowest, highest = _finite(image)
        black, white = _meant_range(lowest, highest, headroom=_FLOAT_HEADROOM)
        return finite, (white, black) if _is_white_zero(image) else (black, white)
    return image, None


def _without_palette(image: Image.Image) -> Image.Image:
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        colours = image.tag_v2[_COLOUR_MAP]
        if max(colours) <= _FULL_SCALES[1]:  # Of 8 bits, where TIFF wants 16.
            image.putpalette(ImagePalette.raw("RGB;L", bytes(colours)))
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _without_canvas(image: Image.Image, drawn: tuple[int, int, int, int]) -> Image.Image:
    opaque = Image.new("L", image.size)
    opaque.paste(255, drawn)
    frame = image.convert("RGBA")
    frame.putalpha(ImageChops.darker(opaque, frame.getchannel("A")))
    return frame


def _of_sixteen_bits(image: Image.Image) -> tuple[Image.Image, Range | None]:
    """Convert what Pillow cannot average."""
    transparent = image.info.get("transparency")
    if transparent is not None:
        levels = np.asarray(image)
        grey, seen = Image.fromarray((levels >> 8).astype(np.uint8)), Image.fromarray(levels != transparent)
        return Image.merge("LA", (grey, seen.convert("L"))), None
    averageable = image.convert("I")
    if _is_white_zero(image):
        return averageable, (_FULL_SCALES[-1], 0)
    _, high = averageable.getextrema()
    of_twelve_bits = image.format == "TIFF" and high <= _TWELVE_BITS  # type: ignore[operator]
    return averageable, (0, _TWELVE_BITS if of_twelve_bits else _FULL_SCALES[-1])


def _of_32_bits(image: Image.Image) -> tuple[Image.Image, Range]:
    low, high = image.getextrema()
    if low < 0 and image.format == "TIFF" and _tag(image, _SAMPLE_FORMAT, 1) == _UNSIGNED:  # type: ignore[operator]
        # Pillow takes these for signed.
        return Image.fromarray(np.asarray(image).view(np.uint32).astype(np.float32)), (0, _32_BITS)
    return image, _meant_range(float(low), float(high), headroom=1)  # type: ignore[arg-type]


def _is_of_twelve_bits(image: Image.Image) -> bool:
    """Tell of a TIFF of 16 bits a channel, of which Pillow gives the upper eight, whether none uses the upper four."""
    if image.format != "TIFF" or _tag(image, _BITS, 1) != 16:
        return False
    highest: int = max(high for _, high in image.getextrema())  # type: ignore[misc]
    return highest <= _TWELVE_BITS >> 8


def _is_white_zero(image: Image.Image) -> bool:
    return bool(_tag(image, _PHOTOMETRIC, None) == _WHITE_IS_ZERO)


def _tag(image: Image.Image, tag: int, default: Any) -> Any:
    """Give the first value of a tag, if the picture is a TIFF and has it."""
    value = image.tag_v2.get(tag, default) if isinstance(image, TiffImagePlugin.TiffImageFile) else default
    return value[0] if isinstance(value, tuple) else value


def _finite(image: Image.Image) -> tuple[Image.Image, float, float]:
    """Replace what is no number by the lowest or highest value there is, and give both."""
    levels = np.asarray(image)
    finite = np.isfinite(levels)
    if not finite.any():
        raise UnreadablePicture("The picture holds no numbers: save it anew and send it again.")
    low = float(np.min(levels, where=finite, initial=np.inf))
    high = float(np.max(levels, where=finite, initial=-np.inf))
    if not finite.all():
        image = Image.fromarray(np.nan_to_num(levels, nan=low, posinf=high, neginf=low))
    return image, low, high


def _meant_range(low: float, high: float, headroom: float) -> Range:
    """Guess what black and white are written as: a full scale that the values fit, else their own extremes."""
    if low < 0:
        return low, high
    return 0, next((full for full in _FULL_SCALES if high <= full * headroom), high)


def in_eight_bits(square: Image.Image, value_range: Range) -> Image.Image:
    """Bring levels to 8 bits by their meaning, as mode L."""
    black, white = value_range
    levels = (np.asarray(square, np.float64) - black) * (255 / (white - black or 1))
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def on_white(square: Image.Image, alpha: Image.Image) -> Image.Image:
    """Lay an RGB picture on white."""
    opaque = Image.new("RGB", square.size, _WHITE)
    opaque.paste(square, mask=alpha)
    return opaque
