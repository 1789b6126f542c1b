"""Uploads of every kind, real photographs among them, come out as the same upright RGB picture."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from deployments.errors import FormatNotAccepted, TooManyPixels, UnreadablePicture
from deployments.types import Swatch
from serve_app.images import read_picture
from serve_app.palette import measure_palette
from serve_app.settings import ImageSettings
from tests.support.pictures import header_of_png, photograph, photograph_path

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def saved(image: Image.Image, format_name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def read(data: bytes, **overrides: Any) -> NDArray[np.uint8]:
    return read_picture(data, ImageSettings(**overrides), 224).pixels


def quadrants() -> Image.Image:
    """Red, green / blue, white; wider than tall."""
    image = Image.new("RGB", (640, 480), WHITE)
    image.paste(RED, (0, 0, 320, 240))
    image.paste(GREEN, (320, 0, 640, 240))
    image.paste(BLUE, (0, 240, 320, 480))
    return image


def corners(pixels: NDArray[np.uint8]) -> list[tuple[int, ...]]:
    """The colours in the middle of each quadrant, row by row."""
    return [tuple(int(level) for level in pixels[y, x]) for y in (56, 168) for x in (56, 168)]


def assert_close(found: list[tuple[int, ...]], expected: list[tuple[int, ...]], tolerance: int = 6) -> None:
    assert np.abs(np.array(found) - np.array(expected)).max() <= tolerance, found


@pytest.mark.parametrize(
    ("format_name", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("GIF", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("JPEG", {"quality": 95, "progressive": True}),
    ],
)
def test_every_accepted_format_gives_the_same_picture(format_name: str, options: dict[str, Any]) -> None:
    pixels = read(saved(quadrants(), format_name, **options))
    assert pixels.shape == (224, 224, 3)
    assert pixels.dtype == np.uint8
    assert_close(corners(pixels), [RED, GREEN, BLUE, WHITE])


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I", "I;16", "F"])
@pytest.mark.parametrize("edge_px", [64, 1000])
def test_every_mode_becomes_rgb_with_its_lightness_kept(mode: str, edge_px: int) -> None:
    grey = np.zeros((edge_px, edge_px), np.uint8)
    grey[:, edge_px // 2 :] = 255
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode == "I":
        image = Image.fromarray(grey.astype(np.int32) * 257)
    elif mode == "F":
        image = Image.fromarray(grey.astype(np.float32) / 255)
    else:
        image = Image.fromarray(grey).convert(mode)
    assert image.mode == mode
    data = saved(image, "PNG" if mode in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16") else "TIFF")
    assert_close(corners(read(data)), [(0, 0, 0), WHITE, (0, 0, 0), WHITE])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = quadrants()
    if orientation in undo:
        stored = stored.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert_close(corners(read(saved(stored, "JPEG", quality=95, exif=exif))), [RED, GREEN, BLUE, WHITE])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_broken_exif_does_not_spoil_a_readable_picture() -> None:
    plain = saved(quadrants(), "JPEG", quality=95)
    segment = b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff"
    broken = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]
    assert_close(corners(read(broken)), [RED, GREEN, BLUE, WHITE])


def test_transparency_is_laid_on_white() -> None:
    image = quadrants().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 320, 240))
    assert_close(corners(read(saved(image, "PNG"))), [WHITE, GREEN, BLUE, WHITE])


def test_a_palette_picture_with_a_transparent_colour_is_laid_on_white() -> None:
    image = Image.new("P", (64, 64), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (0, 0, 32, 64))
    data = saved(image, "GIF", transparency=0)
    assert_close(corners(read(data)), [BLUE, WHITE, BLUE, WHITE])


@pytest.mark.parametrize("format_name", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_counts(format_name: str) -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if format_name == "WEBP" else {}
    data = saved(frames[0], format_name, save_all=True, append_images=frames[1:], **options)
    assert_close(corners(read(data)), [RED] * 4)


def test_a_multi_picture_jpeg_as_phones_write_it_is_a_jpeg() -> None:
    data = saved(quadrants(), "MPO", save_all=True, append_images=[Image.new("RGB", (64, 48), RED)], quality=95)
    assert_close(corners(read(data)), [RED, GREEN, BLUE, WHITE])


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 2)])
def test_tiny_and_thin_pictures_are_read(size: tuple[int, int]) -> None:
    assert_close(corners(read(saved(Image.new("RGB", size, BLUE), "PNG"))), [BLUE] * 4)


@pytest.mark.parametrize("data", [b"", b"hello, I am text", b"\x00" * 100, b"GIF89a", b"%PDF-1.7\n", b"<svg></svg>"])
def test_what_is_no_picture_is_told_what_to_send(data: bytes) -> None:
    with pytest.raises(UnreadablePicture, match="send a JPEG, PNG, WEBP, GIF, BMP or TIFF file"):
        read(data)


@pytest.mark.parametrize("format_name", ["ICO", "PPM", "TGA"])
def test_a_picture_of_another_format_is_named(format_name: str) -> None:
    with pytest.raises(FormatNotAccepted, match=f"{format_name} pictures are not accepted"):
        read(saved(quadrants().resize((64, 64)), format_name))


def test_a_phone_s_heic_is_named() -> None:
    with pytest.raises(FormatNotAccepted, match="HEIC"):
        read(b"\x00\x00\x00\x18ftypheic" + b"\x00" * 64)


def test_a_truncated_photograph_is_broken_not_half_read() -> None:
    whole = photograph_path("china").read_bytes()
    with pytest.raises(UnreadablePicture, match="broken"):
        read(whole[: len(whole) // 2])


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_mangled_photograph_is_read_or_refused_but_never_a_fault(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["rocket", "text", "retina"]))
    content = bytearray(photograph_path(name).read_bytes()[:20_000])
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=20)):
        content[place] = data.draw(st.integers(0, 255))
    with suppress(UnreadablePicture, FormatNotAccepted, TooManyPixels):
        assert read(bytes(content)).shape == (224, 224, 3)


@pytest.mark.parametrize("size", [(10_001, 10_000), (60_000, 60_000)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_by_its_header(size: tuple[int, int]) -> None:
    bomb = header_of_png(*size)
    with pytest.raises(TooManyPixels, match="100 million pixels"):
        read(bomb)


def test_the_pixel_limit_is_the_setting_s() -> None:
    data = saved(quadrants(), "PNG")
    assert read(data, max_megapixels=0.31).shape == (224, 224, 3)
    with pytest.raises(TooManyPixels, match=r"0\.3 million"):
        read(data, max_megapixels=0.3)


@pytest.mark.parametrize(
    ("mode", "format_name", "options", "told_mb_per_megapixel"),
    [
        ("RGBA", "TIFF", {"compression": "tiff_deflate"}, 10),
        ("I", "TIFF", {"compression": "tiff_deflate"}, 10),
        ("RGBA", "WEBP", {"lossless": True, "method": 0}, 17.5),
    ],
)
def test_a_picture_of_many_pixels_takes_the_memory_that_the_setting_tells(
    mode: str, format_name: str, options: dict[str, Any], told_mb_per_megapixel: float, tmp_path: Path
) -> None:
    upload = tmp_path / "large"
    Image.new(mode, (4000, 4000)).save(upload, format_name, **options)
    # In a process of its own, whose peak the kernel counts from its start: VmHWM, in KiB.
    script = (
        "import sys\n"
        "from serve_app.images import read_picture\n"
        "from serve_app.settings import ImageSettings\n"
        "peak = lambda: int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
        "data, before = open(sys.argv[1], 'rb').read(), peak()\n"
        "read_picture(data, ImageSettings(), 224); print(peak() - before)"
    )
    taken = subprocess.run([sys.executable, "-c", script, upload], capture_output=True, check=True, text=True)
    megabytes = int(taken.stdout) / 1024
    assert 16 * 2 < megabytes <= 16 * told_mb_per_megapixel


def float_tiff(levels: NDArray[np.float32]) -> bytes:
    return saved(Image.fromarray(levels), "TIFF")


@pytest.mark.parametrize("no_number", [np.nan, np.inf, -np.inf])
def test_a_float_picture_is_read_though_some_values_are_no_numbers(no_number: float) -> None:
    levels = np.full((64, 64), 0.25, np.float32)
    levels[:, 32:] = 0.75
    levels[::7, ::5] = no_number
    left, right = (pixel[0] for pixel in corners(read(float_tiff(levels)))[:2])
    assert left < right - 60


def test_a_float_picture_s_highlights_may_pass_white() -> None:
    levels = np.full((64, 64), 0.5, np.float32)
    levels[:2] = 1.3
    assert_close(corners(read(float_tiff(levels))), [(127, 127, 127)] * 4)


def test_a_float_picture_without_a_number_is_refused() -> None:
    with pytest.raises(UnreadablePicture, match="holds no numbers"):
        read(float_tiff(np.full((8, 8), np.nan, np.float32)))


@pytest.mark.parametrize("byte_order", ["<u2", ">u2"])
def test_sixteen_bits_mean_the_same_in_either_byte_order(byte_order: str) -> None:
    levels = np.full((64, 64), 0x8000, byte_order)
    mode = "I;16" if byte_order == "<u2" else "I;16B"
    image = Image.frombytes(mode, (64, 64), levels.tobytes())
    assert_close(corners(read(saved(image, "TIFF"))), [(128, 128, 128)] * 4)


def test_a_colour_that_stands_for_transparency_does_not_show_between_pixels() -> None:
    image = Image.new("RGB", (1024, 1024), (255, 0, 255))
    image.paste((0, 0, 255), (0, 0, 512, 1024))
    for row in range(0, 1024, 2):
        image.paste((255, 0, 255), (0, row, 512, row + 1))
    pixels = read(saved(image, "PNG", transparency=(255, 0, 255)))
    assert_close(corners(pixels)[1::2], [WHITE, WHITE])
    red, green, blue = corners(pixels)[0]
    assert abs(red - green) <= 6, "magenta would leave more red than green"
    assert blue > 240


def test_draft_scaling_shifts_a_large_photograph_by_little() -> None:
    large = photograph("china").resize((2400, 1600), Image.Resampling.LANCZOS)
    data = saved(large, "JPEG", quality=90)
    exact = read(data, exact=True).astype(int)
    drafted = read(data).astype(int)
    difference = np.abs(exact - drafted)
    assert difference.max() > 0, "the draft was not used"
    assert difference.mean() < 1.5


def test_the_palette_names_the_colours_and_their_shares() -> None:
    image = Image.new("RGB", (400, 400), (200, 30, 30))
    image.paste((20, 40, 160), (0, 0, 400, 100))
    palette = read_picture(saved(image, "PNG"), ImageSettings(), 224).palette
    assert [swatch.hex for swatch in palette] == ["#c81e1e", "#1428a0"]
    assert palette[0].share == pytest.approx(0.75, abs=0.02)
    assert palette[1].share == pytest.approx(0.25, abs=0.02)


PALETTES = {
    "china": "dbe5f2 0.4106 27221b 0.2147 635c3f 0.1720 b0bbba 0.0650 868575 0.0619",
    "flower": "033b37 0.5700 071810 0.1303 dd9d61 0.1181 cf7136 0.0418 015862 0.0355",
    "coffee": "aa4720 0.3776 c47946 0.1927 2c0b05 0.1793 d8a67b 0.0920 781f0d 0.0753",
    "chelsea": "9e785b 0.5454 784f33 0.2407 b89d93 0.1464 3a2312 0.0431 836c62 0.0225",
    "rocket": "2a3650 0.7049 525e77 0.1363 151a26 0.0924 58483b 0.0298 ac7e46 0.0152",
    "astronaut": "c6bcb7 0.2850 050302 0.1746 db6843 0.1449 948780 0.0889 701d13 0.0797",
    "hubble": "0e100e 0.9541 454453 0.0187 836c76 0.0093 9499a6 0.0047 c6d0d3 0.0039",
    "page": "dedede 0.4375 afafaf 0.1717 909090 0.1633 707070 0.1078 525252 0.0812",
}
"""Of each photograph, as its first release measured them."""


@pytest.mark.parametrize("name", PALETTES)
def test_a_photograph_s_palette_stays_what_it_was(name: str) -> None:
    square = photograph(name).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
    told = PALETTES[name].split()
    palette = measure_palette(square, colours=5)
    for swatch, colour, share in zip(palette, told[::2], told[1::2], strict=True):
        levels = [bytes.fromhex(colour) for colour in (swatch.hex[1:], colour)]
        assert max(abs(ours - theirs) for ours, theirs in zip(*levels, strict=True)) <= 3
        assert swatch.share == pytest.approx(float(share), abs=0.01)


def test_the_largest_picture_of_one_colour_has_that_colour() -> None:
    assert measure_palette(Image.new("RGB", (1024, 1024), WHITE), colours=5) == (Swatch("#ffffff", 1.0),)
