"""From uploaded bytes to a checked, upright, small picture in sRGB."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image, UnidentifiedImageError

from deployments.errors import FormatNotAccepted, TooManyPixels, UnreadablePicture
from deployments.ollama.jpeg import encoded
from deployments.types import BICUBIC, Swatch
from serve_app.pictures import png_chunks, tiff_directory
from serve_app.pictures.aspect_ratio import usual_ratio
from serve_app.pictures.colour_profiles import profile_in_bmp, to_srgb
from serve_app.pictures.cut_jpeg import read_cut_jpeg
from serve_app.pictures.levels import Range, averageable, in_eight_bits, on_white, take_levels_as_they_come
from serve_app.pictures.orientation import View, upright
from serve_app.pictures.palette import measure_palette
from serve_app.pictures.refusals import ACCEPTED_FORMATS, JPEG_MAGIC, broken, not_accepted, refusal
from serve_app.settings import ImageSettings

# MPO is what Pillow calls a JPEG with a second picture in it, as many phones write.
_ACCEPTED_BY_PILLOW = (*ACCEPTED_FORMATS, "MPO")

_DRAFT_GAP = 1.25
"""A JPEG is decoded at the smallest eighth of its size that is at least this many times the wanted one;
`python -m benchmarks.score_shift` tells what that and the rest of the fast path shift."""

_REDUCING_GAP = 1.5
"""Pillow first averages whole pixels down to this many times the wanted size."""

_LEAST_JPEG_PX = 32
"""Runners of some models die of a picture that is narrower than one of their patches, of 28 pixels."""

_QUICK_SHARE = 2 / 3
"""Of the longest side of a JPEG that is shown: where averaging whole pixels leaves as much, nothing more is done, since
resizing 1600x1200 pixels takes 10 ms of CPU and averaging them 1."""

AvifImagePlugin.DEFAULT_MAX_THREADS = 1
"""A picture takes one core, as those of the other formats do: `decode_threads` share them out."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded upload: uint8 RGB pixels, (size, size, 3), its measured palette, and its usual ratio, `W:H`.

    `jpeg`: the picture with its aspect kept, to be looked at; empty where that is not wanted.
    """

    pixels: NDArray[np.uint8]
    palette: tuple[Swatch, ...]
    aspect_ratio: str
    jpeg: bytes = b""


def read_picture(
    data: bytes, settings: ImageSettings, input_size_px: int, jpeg_px: int = 0, resample: int = BICUBIC
) -> Picture:
    """Decode an upload, first frame only, and shrink it for the vision model; blocking.

    A JPEG is decoded at a fraction of its size, and every picture resized once, aspect not kept; `exact` does both in
    full, by way of a square of `view_size_px`, as the original does. What the client declared the type to be is
    not looked at.

    Args:
        data: the upload.
        settings: bounds, and how exactly it is decoded.
        input_size_px: the square's edge.
        jpeg_px: what has been decoded, be it a fraction, is given as a JPEG with its aspect kept too, of at most so
            many pixels on its long side; 0: it is not.
        resample: the filter that makes the square, by Pillow's number.

    Raises:
        UnreadablePicture: no picture, or a broken one.
        FormatNotAccepted: a picture of another format, or of a kind of its format that is not read.
        TooManyPixels: its header names more than `max_megapixels`.
    """
    try:
        view = _view_mended(data, lambda data: _view(data, settings, input_size_px, jpeg_px, resample))
    except (FormatNotAccepted, TooManyPixels, UnreadablePicture):
        raise
    except UnidentifiedImageError as error:
        raise refusal(data) from error
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(settings) from error
    except Exception as error:  # Pillow's decoders raise nearly anything on a broken file
        raise broken(error) from error
    return Picture(
        np.asarray(view.square),
        measure_palette(view.square, settings.palette_colours),
        usual_ratio(view.width_px, view.height_px),
        b"" if view.whole is None else encoded(view.whole),
    )


def _view_mended(data: bytes, decode: Callable[[bytes], View]) -> View:
    """Decode what a browser would show too, though it is not quite as its format has it."""
    if data.startswith(png_chunks.MAGIC):
        return decode(png_chunks.without_burden(data))
    if data.startswith(tiff_directory.MAGICS):
        return upright(decode(tiff_directory.without_burden(data)), data)
    try:
        return decode(data)
    except OSError:
        if not data.startswith(JPEG_MAGIC) or (view := read_cut_jpeg(data, decode)) is None:
            raise
        return view


def _view(data: bytes, settings: ImageSettings, input_size_px: int, jpeg_px: int, resample: int) -> View:
    with Image.open(io.BytesIO(data)) as image:
        _check(image, settings)
        if image.format == "BMP":
            image.info["icc_profile"] = profile_in_bmp(data)
        take_levels_as_they_come(image)
        sides = image.size
        drawn = image.tile[0].extents if image.format == "GIF" else None
        if not settings.exact:
            image.draft(None, 2 * (math.ceil(_DRAFT_GAP * input_size_px),))
        image.load()
        plain, value_range = averageable(image, drawn)

        if settings.exact:
            square = plain.resize((settings.view_size_px,) * 2, Image.Resampling.BICUBIC)
        else:
            square = plain.resize((input_size_px,) * 2, resample, reducing_gap=_REDUCING_GAP)
        square = _finished(square, value_range, image)
        if settings.exact:
            square = square.resize((input_size_px,) * 2, resample)
        whole = _finished(_within(plain, jpeg_px, settings), value_range, image) if jpeg_px else None
        return upright(View(square, *sides, whole), image.info.get("exif", b""))


def _check(image: Image.Image, settings: ImageSettings) -> None:
    if image.format not in _ACCEPTED_BY_PILLOW:
        raise not_accepted(f"{image.format} pictures")
    if image.width * image.height > settings.max_megapixels * 1e6:
        raise _too_many_pixels(settings)


def _too_many_pixels(settings: ImageSettings) -> TooManyPixels:
    return TooManyPixels(
        f"The picture has more than {settings.max_megapixels:g} million pixels: send it at a smaller size."
    )


def _within(plain: Image.Image, longest_px: int, settings: ImageSettings) -> Image.Image:
    """Keep the aspect, but of strips; what is tiny is enlarged."""
    size = plain.size
    factor = math.ceil(max(size) / longest_px)
    quickly = not settings.exact and max(size) / factor >= _QUICK_SHARE * longest_px
    if factor > 1 and quickly and min(size) / factor >= _LEAST_JPEG_PX:
        return plain.reduce(factor)
    scale = min(longest_px / max(size), max(1.0, _LEAST_JPEG_PX / min(size)))
    width, height = (max(_LEAST_JPEG_PX, round(px * scale)) for px in size)
    return plain.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=_REDUCING_GAP)


def _finished(small: Image.Image, value_range: Range | None, image: Image.Image) -> Image.Image:
    """Bring what was shrunk to 8 bits, sRGB and onto white.

    All that is done to little and not to a hundred megapixels, and so is the turn afterwards.
    """
    if value_range is not None:
        small = in_eight_bits(small, value_range)
    alpha = small.getchannel("A") if small.mode in ("LA", "RGBA") else None
    if alpha is not None:
        small = small.convert(small.mode[:-1])
    rgb = to_srgb(small, image.info)
    return rgb if alpha is None else on_white(rgb, alpha)
