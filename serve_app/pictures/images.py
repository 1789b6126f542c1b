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
from deployments.types import Swatch
from serve_app.pictures import png_chunks, tiff_directory
from serve_app.pictures.aspect_ratio import usual_ratio
from serve_app.pictures.colour_profiles import profile_in_bmp, to_srgb
from serve_app.pictures.cut_jpeg import read_cut_jpeg
from serve_app.pictures.levels import averageable, in_eight_bits, on_white, take_levels_as_they_come
from serve_app.pictures.orientation import View, upright
from serve_app.pictures.palette import measure_palette
from serve_app.pictures.refusals import ACCEPTED_FORMATS, broken, not_accepted, refusal
from serve_app.settings import ImageSettings

# MPO is what Pillow calls a JPEG with a second picture in it, as many phones write.
_ACCEPTED_BY_PILLOW = (*ACCEPTED_FORMATS, "MPO")

_JPEG = b"\xff\xd8\xff"

_DRAFT_GAP = 1.25
"""A JPEG is decoded at the smallest eighth of its size that is at least this many times the wanted one;
`python -m benchmarks.score_shift` tells what that and the rest of the fast path shift."""

_REDUCING_GAP = 1.5
"""Pillow first averages whole pixels down to this many times the wanted size."""

AvifImagePlugin.DEFAULT_MAX_THREADS = 1
"""A picture takes one core, as those of the other formats do: `decode_threads` share them out."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded upload: uint8 RGB pixels, (size, size, 3), its measured palette, and its usual ratio, `W:H`."""

    pixels: NDArray[np.uint8]
    palette: tuple[Swatch, ...]
    aspect_ratio: str


def read_picture(data: bytes, settings: ImageSettings, input_size_px: int) -> Picture:
    """Decode an upload, first frame only, and shrink it for the vision model; blocking.

    A JPEG is decoded at a fraction of its size, and every picture resized once, bicubic, aspect not kept; `exact` does
    both in full, by way of a square of `view_size_px`, as the original does. What the client declared the type to be is
    not looked at.

    Raises:
        UnreadablePicture: no picture, or a broken one.
        FormatNotAccepted: a picture of another format, or of a kind of its format that is not read.
        TooManyPixels: its header names more than `max_megapixels`.
    """
    try:
        view = _view_mended(data, lambda data: _view(data, settings, input_size_px))
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
        if not data.startswith(_JPEG) or (view := read_cut_jpeg(data, decode)) is None:
            raise
        return view


def _view(data: bytes, settings: ImageSettings, input_size_px: int) -> View:
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
        if settings.exact:
            square = _square(image, drawn, settings.view_size_px)
            square = square.resize((input_size_px, input_size_px), Image.Resampling.BICUBIC)
        else:
            square = _square(image, drawn, input_size_px, _REDUCING_GAP)
        return upright(View(square, *sides), image.info.get("exif", b""))


def _check(image: Image.Image, settings: ImageSettings) -> None:
    if image.format not in _ACCEPTED_BY_PILLOW:
        raise not_accepted(f"{image.format} pictures")
    if image.width * image.height > settings.max_megapixels * 1e6:
        raise _too_many_pixels(settings)


def _too_many_pixels(settings: ImageSettings) -> TooManyPixels:
    return TooManyPixels(
        f"The picture has more than {settings.max_megapixels:g} million pixels: send it at a smaller size."
    )


def _square(
    image: Image.Image, drawn: tuple[int, int, int, int] | None, edge_px: int, reducing_gap: float | None = None
) -> Image.Image:
    """Shrink to a square, then bring it to 8 bits, sRGB and onto white.

    All that is done to the square and not to a hundred megapixels, and so is the turn afterwards.
    """
    plain, value_range = averageable(image, drawn)
    square = plain.resize((edge_px, edge_px), Image.Resampling.BICUBIC, reducing_gap=reducing_gap)
    if value_range is not None:
        square = in_eight_bits(square, value_range)
    alpha = square.getchannel("A") if square.mode in ("LA", "RGBA") else None
    if alpha is not None:
        square = square.convert(square.mode[:-1])
    rgb = to_srgb(square, image.info)
    return rgb if alpha is None else on_white(rgb, alpha)
