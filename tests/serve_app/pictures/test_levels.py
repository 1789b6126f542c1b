"""Transparency is laid on white in every mode, and a TIFF's numbers are taken for what they mean."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from serve_app.pictures.images import read_picture
from serve_app.settings import ImageSettings
from tests.support.pictures import png_chunk, png_of, saved

WHITE, RED = (255, 255, 255), (200, 10, 10)


def assert_halves(data: bytes, left: Sequence[int], right: Sequence[int], tolerance: int = 9) -> None:
    for exact in (False, True):
        pixels = read_picture(data, ImageSettings(exact=exact), 224).pixels.astype(int)
        assert np.abs(pixels[:, 8:96] - left).max() <= tolerance, pixels[100, 50]
        assert np.abs(pixels[:, 128:216] - right).max() <= tolerance, pixels[100, 150]


def row_of(left: int, right: int, bits: int) -> bytes:
    """64 levels, half and half, as a PNG packs them."""
    levels = [left] * 32 + [right] * 32
    if bits == 16:
        return struct.pack(">64H", *levels)
    each = 8 // bits
    return bytes(
        sum(level << bits * (each - 1 - i) for i, level in enumerate(levels[at : at + each]))
        for at in range(0, 64, each)
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_grey_of_a_png_is_white_at_every_depth(bits: int) -> None:
    full = (1 << bits) - 1
    clear, seen = (0, 1) if bits == 1 else (1, full - 1)
    data = png_of(row_of(clear, seen, bits), bits, 0, png_chunk(b"tRNS", struct.pack(">H", clear)))
    assert_halves(data, WHITE, [round(seen / full * 255)] * 3)


@pytest.mark.parametrize("layout", ["B", ">H"], ids=[8, 16])
def test_a_transparent_colour_of_a_png_is_white_at_every_depth(layout: str) -> None:
    times = 257 if layout == ">H" else 1
    row = b"".join(struct.pack(layout, times * level) for level in (*(1, 2, 3) * 32, *RED * 32))
    key = struct.pack(">3H", *(times * level for level in (1, 2, 3)))
    assert_halves(png_of(row, 16 if times > 1 else 8, 2, png_chunk(b"tRNS", key)), WHITE, RED)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize(
    ("alphas", "left"), [(b"\0", WHITE), (b"\x80\xff", (132, 132, 132)), (b"\xff" * 300, (9, 9, 9))]
)
def test_a_transparent_entry_of_a_palette_is_white_at_every_depth(
    bits: int, alphas: bytes, left: tuple[int, ...]
) -> None:
    chunks = png_chunk(b"PLTE", bytes((9, 9, 9, *RED))) + png_chunk(b"tRNS", alphas)
    assert_halves(png_of(row_of(0, 1, bits), bits, 3, chunks), left, RED)


def bmp(alpha: bytes) -> bytes:
    """A red BMP of 64x64 with this alpha in its left half and in its right one."""
    blue, green, red = RED[::-1]
    pixels = b"".join(bytes((blue, green, red, a)) * 32 for a in alpha) * 64
    header = struct.pack("<IiiHHIIiiII", 124, 64, 64, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    header += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(68)
    return b"BM" + struct.pack("<IHHI", 138 + len(pixels), 0, 0, 138) + header + pixels


def test_a_bmp_whose_alpha_is_zero_everywhere_is_opaque() -> None:
    assert_halves(bmp(b"\0\0"), RED, RED)
    assert_halves(bmp(b"\0\xff"), WHITE, RED)


@pytest.mark.parametrize("transparent", [None, 0, 2])
@pytest.mark.parametrize("grey", [False, True])
def test_what_a_gif_s_frame_leaves_of_its_canvas_is_white(transparent: int | None, grey: bool) -> None:
    frame = Image.new("P", (32, 64), 128 if grey else 1)
    frame.putpalette([level for i in range(256) for level in (i, i, i)] if grey else [0, 200, 0, *RED, 30, 60, 200])
    options = {} if transparent is None else {"transparency": transparent}
    gif = bytearray(saved(frame, "GIF", optimize=False, **options))
    gif[6:8] = struct.pack("<H", 64)
    at = gif.index(b"\x2c\0\0\0\0") + 1
    colour = (128, 128, 128) if grey else RED
    assert_halves(bytes(gif), colour, WHITE)
    gif[at : at + 2] = struct.pack("<H", 32)
    assert_halves(bytes(gif), WHITE, colour)


def tiff(levels: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, levels, **options)
    return file.getvalue()


def halves(left: Any, right: Any, dtype: Any) -> np.ndarray[Any, Any]:
    """64x64 pixels, half and half, of one number or several."""
    row = np.array([left] * 32 + [right] * 32, dtype)
    return np.broadcast_to(row, (64, *row.shape)).copy()


FULL, MIDDLE = 65535, 0x8080


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(
    ("levels", "photometric", "left", "right"),
    [
        (halves(True, False, bool), "miniswhite", 0, 255),
        (halves(0x20, 255, np.uint8), "miniswhite", 0xDF, 0),
        (halves(0x2020, FULL, np.uint16), "miniswhite", 0xDF, 0),
        (halves(0x20, 0x20, np.uint16), "miniswhite", 255, 255),
        (halves(MIDDLE, FULL, np.uint16), "minisblack", 128, 255),
        (halves(2048, 4095, np.uint16), "minisblack", 128, 255),
        (halves(0.25, 1, np.float32), "miniswhite", 191, 0),
        (halves([2048] * 3, [4095] * 3, np.uint16), "rgb", 128, 255),
    ],
    ids=[f"{kind} {i}" for i, kind in enumerate(["white"] * 4 + ["black"] * 2 + ["white", "rgb"])],
)
def test_a_tiff_s_levels_are_taken_for_what_they_mean(
    levels: np.ndarray[Any, Any], photometric: str, left: int, right: int, compression: str | None, order: str
) -> None:
    data = tiff(levels, photometric=photometric, compression=compression, byteorder=order)
    assert_halves(data, [left] * 3, [right] * 3)


def test_a_tiff_s_unsigned_32_bits_are_not_taken_for_signed() -> None:
    assert_halves(tiff(halves(2**31, 2**32 - 1, np.uint32), photometric="minisblack"), [127] * 3, WHITE)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("times", [1, 257], ids=["of 8 bits", "of 16 bits"])
def test_a_tiff_s_palette_may_be_of_8_bits(times: int, order: str) -> None:
    colours = np.zeros((3, 256), np.uint16)
    colours[:, 7], colours[:, 8] = np.multiply(RED, times), np.multiply((30, 60, 200), times)
    data = tiff(halves(7, 8, np.uint8), photometric="palette", colormap=colours, byteorder=order)
    assert_halves(data, RED, (30, 60, 200))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
def test_a_tiff_s_grey_with_alpha_is_laid_on_white(kind: str, order: str) -> None:
    data = tiff(halves([0, 0], [128, 255], np.uint8), photometric="minisblack", extrasamples=[kind], byteorder=order)
    assert_halves(data, WHITE, [128] * 3)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("photometric", ["rgb", "separated"])
def test_a_tiff_may_hold_its_channels_one_after_another(
    photometric: str, dtype: Any, compression: str | None, order: str
) -> None:
    times = 257 if dtype == np.uint16 else 1
    left, right = (RED, (30, 60, 200)) if photometric == "rgb" else ((0, 255, 255, 0), (0, 0, 0, 0))
    levels = np.moveaxis(halves(np.multiply(left, times), np.multiply(right, times), dtype), -1, 0)
    data = tiff(levels, photometric=photometric, planarconfig="separate", compression=compression, byteorder=order)
    seen = (RED, (30, 60, 200)) if photometric == "rgb" else ((255, 0, 0), WHITE)
    assert_halves(data, *seen)
