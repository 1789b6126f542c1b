"""Uploads of every kind, real photographs among them, come out as the same upright RGB picture."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deployments.errors import FormatNotAccepted, TooManyPixels, UnreadablePicture
from deployments.types import Swatch
from serve_app.pictures.images import read_picture
from serve_app.pictures.palette import measure_palette
from serve_app.settings import ImageSettings
from tests.support.pictures import header_of_png, photograph, photograph_path, saved

RED, GREEN, BLUE, WHITE = QUADRANTS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]


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


def assert_corners(data: bytes, expected: Sequence[tuple[int, ...]], tolerance: int = 6) -> None:
    found = corners(read(data))
    assert np.abs(np.array(found) - np.array(expected)).max() <= tolerance, found


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.new("RGB", size, colour)


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
        ("AVIF", {"quality": 95}),
        ("JPEG", {"quality": 95, "progressive": True}),
    ],
)
def test_every_accepted_format_gives_the_same_picture(format_name: str, options: dict[str, Any]) -> None:
    data = saved(quadrants(), format_name, **options)
    assert (read(data).shape, read(data).dtype) == ((224, 224, 3), np.dtype(np.uint8))
    assert_corners(data, QUADRANTS)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I", "I;16", "F"])
@pytest.mark.parametrize("edge_px", [64, 1000])
def test_every_mode_becomes_rgb_with_its_lightness_kept(mode: str, edge_px: int) -> None:
    grey = np.zeros((edge_px, edge_px), np.uint8)
    grey[:, edge_px // 2 :] = 255
    levels: dict[str, NDArray[Any]] = {
        "I;16": grey.astype(np.uint16) * 257,
        "I": grey.astype(np.int32) * 257,
        "F": grey.astype(np.float32) / 255,
    }
    image = Image.fromarray(levels[mode]) if mode in levels else Image.fromarray(grey).convert(mode)
    assert image.mode == mode
    data = saved(image, "PNG" if mode in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16") else "TIFF")
    assert_corners(data, [(0, 0, 0), WHITE, (0, 0, 0), WHITE])


def test_transparency_is_laid_on_white_by_alpha_and_by_colour() -> None:
    image = quadrants().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 320, 240))
    assert_corners(saved(image, "PNG"), [WHITE, GREEN, BLUE, WHITE])
    image = Image.new("P", (64, 64), 0)
    image.putpalette([*RED, *BLUE])
    image.paste(1, (0, 0, 32, 64))
    assert_corners(saved(image, "GIF", transparency=0), [BLUE, WHITE, BLUE, WHITE])


@pytest.mark.parametrize("format_name", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_of_an_animation_the_first_frame_counts(format_name: str) -> None:
    frames = [plain(colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if format_name == "WEBP" else {}
    data = saved(frames[0], format_name, save_all=True, append_images=frames[1:], **options)
    assert_corners(data, [RED] * 4)


def test_a_multi_picture_jpeg_as_phones_write_it_is_a_jpeg() -> None:
    data = saved(quadrants(), "MPO", save_all=True, append_images=[plain(RED)], quality=95)
    assert_corners(data, QUADRANTS)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 2)])
def test_tiny_and_thin_pictures_are_read(size: tuple[int, int]) -> None:
    assert_corners(saved(plain(BLUE, size), "PNG"), [BLUE] * 4)


NOT_A_PICTURE = "send a JPEG, PNG, WEBP, GIF, BMP, TIFF or AVIF file"
CHINA = photograph_path("china").read_bytes()


@pytest.mark.parametrize(
    ("data", "error", "sentence"),
    [
        *((data, UnreadablePicture, NOT_A_PICTURE) for data in (b"", b"hello, I am text", b"\x00" * 100, b"GIF89a")),
        *((data, UnreadablePicture, NOT_A_PICTURE) for data in (b"%PDF-1.7\n", b"<svg></svg>")),
        (CHINA[: len(CHINA) // 2], UnreadablePicture, "broken"),
        *((saved(plain(RED), kind), FormatNotAccepted, f"{kind} pictures are not") for kind in ("ICO", "PPM", "TGA")),
        (b"\x00\x00\x00\x18ftypheic" + b"\x00" * 64, FormatNotAccepted, "HEIC"),
        (header_of_png(10_001, 10_000), TooManyPixels, "100 million pixels"),
        (header_of_png(60_000, 60_000), TooManyPixels, "100 million pixels"),
    ],
    ids=map(str, itertools.count()),
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_cannot_be_read_is_told(data: bytes, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        read(data)


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
        ("RGBA", "AVIF", {"speed": 10, "quality": 10}, 17.5),
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
        "from serve_app.pictures.images import read_picture\n"
        "from serve_app.settings import ImageSettings\n"
        "peak = lambda: int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
        "data, before = open(sys.argv[1], 'rb').read(), peak()\n"
        "read_picture(data, ImageSettings(), 224); print(peak() - before)"
    )
    taken = subprocess.run([sys.executable, "-c", script, upload], capture_output=True, check=True, text=True)
    megabytes = int(taken.stdout) / 1024
    assert 16 * 2 < megabytes <= 16 * told_mb_per_megapixel


@pytest.mark.parametrize("no_number", [np.nan, np.inf, -np.inf])
def test_a_float_picture_is_read_though_some_values_are_no_numbers_or_pass_white(no_number: float) -> None:
    levels = np.full((64, 64), 0.5, np.float32)
    levels[:2] = 1.3
    assert_corners(saved(Image.fromarray(levels), "TIFF"), [(127, 127, 127)] * 4)
    levels[:, :32] = 0.25
    levels[::7, ::5] = no_number
    left, right = (pixel[0] for pixel in corners(read(saved(Image.fromarray(levels), "TIFF")))[:2])
    assert left < right - 30
    levels[:] = no_number
    with pytest.raises(UnreadablePicture, match="holds no numbers"):
        read(saved(Image.fromarray(levels), "TIFF"))


@pytest.mark.parametrize("byte_order", ["<u2", ">u2"])
def test_sixteen_bits_mean_the_same_in_either_byte_order(byte_order: str) -> None:
    levels = np.full((64, 64), 0x8000, byte_order)
    mode = "I;16" if byte_order == "<u2" else "I;16B"
    image = Image.frombytes(mode, (64, 64), levels.tobytes())
    assert_corners(saved(image, "TIFF"), [(128, 128, 128)] * 4)


def test_a_colour_that_stands_for_transparency_does_not_show_between_pixels() -> None:
    image = Image.new("RGB", (1024, 1024), (255, 0, 255))
    image.paste((0, 0, 255), (0, 0, 512, 1024))
    for row in range(0, 1024, 2):
        image.paste((255, 0, 255), (0, row, 512, row + 1))
    (red, green, blue), *right = corners(read(saved(image, "PNG", transparency=(255, 0, 255))))[:2]
    assert right == [WHITE]
    assert abs(red - green) <= 6, "magenta would leave more red than green"
    assert blue > 240


def test_draft_scaling_shifts_a_large_photograph_by_little() -> None:
    large = photograph("china").resize((2400, 1600), Image.Resampling.LANCZOS)
    data = saved(large, "JPEG", quality=90)
    difference = np.abs(read(data, exact=True).astype(int) - read(data).astype(int))
    assert difference.max() > 0, "the draft was not used"
    assert difference.mean() < 1.5


@pytest.mark.parametrize("exact", [False, True])
def test_the_square_is_made_by_the_model_s_filter(exact: bool) -> None:
    picture, settings = photograph("coffee").resize((512, 512)), ImageSettings(exact=exact)
    for resample in (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR):
        expected = np.asarray(picture.resize((256, 256), resample))
        made = read_picture(saved(picture, "PNG"), settings, 256, resample=resample).pixels
        np.testing.assert_array_equal(made, expected)


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
