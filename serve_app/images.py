"""From uploaded bytes to a checked, upright, small RGB picture."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from deployments.errors import FormatNotAccepted, TooManyPixels, UnreadablePicture
from deployments.types import Swatch
from serve_app.palette import measure_palette
from serve_app.settings import ImageSettings

ACCEPTED_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

_ACCEPTED_SPOKEN = ", ".join(ACCEPTED_FORMATS[:-1]) + " or " + ACCEPTED_FORMATS[-1]

# MPO is what Pillow calls a JPEG with a second picture in it, as many phones write.
_ACCEPTED_BY_PILLOW = (*ACCEPTED_FORMATS, "MPO")

# ISO base media files, of which HEIC and AVIF pictures and MP4 films are kinds, carry this at byte 4.
_ISO_MEDIA_MARK = b"ftyp"

_WHITE = (255, 255, 255)

_FULL_SCALES = (1.0, 255.0, 65535.0)
"""What white is written as: in floating point, in 8 bits, in 16."""

_DRAFT_GAP = 1.25
"""A JPEG is decoded at the smallest eighth of its size that is at least this many times the wanted one;
`python -m benchmarks.score_shift` tells what that and the rest of the fast path shift."""

_REDUCING_GAP = 1.5
"""Pillow first averages whole pixels down to this many times the wanted size."""

_FLOAT_HEADROOM = 2
"""Highlights of a float picture may pass white; by more than this it is of another scale."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded upload: uint8 RGB pixels, (size, size, 3), and its measured palette."""

    pixels: NDArray[np.uint8]
    palette: tuple[Swatch, ...]


def read_picture(data: bytes, settings: ImageSettings, input_size_px: int) -> Picture:
    """Decode an upload, first frame only, and shrink it for the vision model; blocking.

    A JPEG is decoded at a fraction of its size, and every picture resized once, bicubic, aspect not kept; `exact` does
    both in full, by way of a square of `view_size_px`, as the original does. What the client declared the type to be is
    not looked at.

    Raises:
        UnreadablePicture: no picture, or a broken one.
        FormatNotAccepted: a picture of another format.
        TooManyPixels: its header names more than `max_megapixels`.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            _check(image, settings)
            if not settings.exact:
                image.draft(None, 2 * (math.ceil(_DRAFT_GAP * input_size_px),))
            image.load()
            if settings.exact:
                square = _to_rgb(*_shrunk(image, settings.view_size_px))
                view = square.resize((input_size_px, input_size_px), Image.Resampling.BICUBIC)
            else:
                view = _to_rgb(*_shrunk(image, input_size_px, _REDUCING_GAP))
    except (FormatNotAccepted, TooManyPixels, UnreadablePicture):
        raise
    except UnidentifiedImageError as error:
        raise _not_a_picture(data) from error
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(settings) from error
    except Exception as error:  # Pillow's decoders raise nearly anything on a broken file
        raise UnreadablePicture(
            f"The picture is broken and cannot be decoded ({error}): save it anew and send it again."
        ) from error
    return Picture(pixels=np.asarray(view), palette=measure_palette(view, settings.palette_colours))


def _check(image: Image.Image, settings: ImageSettings) -> None:
    if image.format not in _ACCEPTED_BY_PILLOW:
        raise _format_not_accepted(f"{image.format} pictures")
    if image.width * image.height > settings.max_megapixels * 1e6:
        raise _too_many_pixels(settings)


def _not_a_picture(data: bytes) -> FormatNotAccepted | UnreadablePicture:
    if data[4:8] == _ISO_MEDIA_MARK:
        return _format_not_accepted("HEIC, AVIF and MP4 files")
    return UnreadablePicture(f"The upload is not a readable picture: send a {_ACCEPTED_SPOKEN} file.")


def _format_not_accepted(what: str) -> FormatNotAccepted:
    return FormatNotAccepted(f"{what} are not accepted: send a {_ACCEPTED_SPOKEN} file.")


def _too_many_pixels(settings: ImageSettings) -> TooManyPixels:
    return TooManyPixels(
        f"The picture has more than {settings.max_megapixels:g} million pixels: send it at a smaller size."
    )


Range = tuple[float, float]
"""The values that stand for black and white."""


def _shrunk(image: Image.Image, edge_px: int, reducing_gap: float | None = None) -> tuple[Image.Image, Range | None]:
    """Shrink to a square, then turn upright: all later copies are of that and not of a hundred megapixels.

    Turning a square afterwards gives the same picture. What has no values in between is converted first: palettes,
    single bits, and a colour that stands for transparency.
    """
    value_range: Range | None = None
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode in ("P", "PA") or (image.mode in ("L", "RGB") and "transparency" in image.info):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode.startswith("I;16"):
        # Pillow cannot average these.
        image, value_range = image.convert("I"), (0, _FULL_SCALES[-1])
    elif image.mode == "I":
        low, high = image.getextrema()
        value_range = _meant_range(float(low), float(high), headroom=1)  # type: ignore[arg-type]
    elif image.mode == "F":
        image, low, high = _finite(image)
        value_range = _meant_range(low, high, headroom=_FLOAT_HEADROOM)
    square = image.resize((edge_px, edge_px), Image.Resampling.BICUBIC, reducing_gap=reducing_gap)
    return _upright(square), value_range


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


def _upright(image: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF orientation says; unreadable metadata does not spoil a readable picture."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def _to_rgb(image: Image.Image, value_range: Range | None) -> Image.Image:
    """Bring a shrunk picture to RGB: transparency onto white, 16-bit and float levels to 8 bits by their meaning."""
    if value_range is not None:
        return Image.fromarray(_to_eight_bits(np.asarray(image, np.float64), *value_range)).convert("RGB")
    if image.has_transparency_data:
        transparent = image.convert("RGBA")
        opaque = Image.new("RGB", transparent.size, _WHITE)
        opaque.paste(transparent, mask=transparent.getchannel("A"))
        return opaque
    return image.convert("RGB")


def _to_eight_bits(levels: NDArray[np.float64], black: float, white: float) -> NDArray[np.uint8]:
    eight_bits: NDArray[np.uint8] = ((levels - black) * (255 / (white - black or 1))).clip(0, 255).astype(np.uint8)
    return eight_bits
