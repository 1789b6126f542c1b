"""Whatever a profile says that a picture's numbers mean, its colours come out as sRGB."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from serve_app.pictures.images import read_picture
from serve_app.settings import ImageSettings
from tests.support.pictures import Rgb, png_chunk, png_of, profile_of, saved

GREEN = (0x20, 0xB0, 0x48)
LINEAR_GREY, GREY = 55, (128, 128, 128)
"""The same grey, as an amount of light out of 255 and in sRGB."""

DISPLAY_P3, ADOBE_RGB = profile_of("icc_p3_jpeg"), profile_of("icc_adobergb_jpeg")
GREY_LINEAR, PRESS = profile_of("icc_grey_linear_png"), profile_of("cmyk_icc_cyan_jpeg")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def colours(data: bytes) -> list[Rgb]:
    """The picture's colours that cover over a fifth, exactly and by the fast path."""
    exact, fast = (
        [tuple(bytes.fromhex(swatch.hex[1:])) for swatch in palette if swatch.share > 0.2]
        for palette in (read_picture(data, ImageSettings(exact=exact), 224).palette for exact in (True, False))
    )
    assert np.abs(np.subtract(exact, fast)).max() <= 4
    return [(red, green, blue) for red, green, blue in fast]


def assert_colour(data: bytes, expected: Rgb, tolerance: int = 14) -> None:
    found = colours(data)
    assert any(np.abs(np.subtract(colour, expected)).max() <= tolerance for colour in found), found


def within(profile: bytes, colour: Rgb) -> Rgb:
    """The numbers by which a picture of this profile has the colour."""
    transform = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile)), "RGB", "RGB"
    )
    red, green, blue = transform.apply(Image.new("RGB", (1, 1), colour)).tobytes()
    return red, green, blue


def bmp_with(profile: bytes, colour: Rgb) -> bytes:
    pixels = bytes(colour[::-1]) * 64 * 64
    header = struct.pack("<IiiHHIIiiII", 124, 64, 64, 1, 24, 0, len(pixels), 2835, 2835, 0, 0)
    header += bytes(16) + b"DEBM" + bytes(48) + struct.pack("<IIII", 4, 124 + len(pixels), len(profile), 0)
    return b"BM" + struct.pack("<IHHI", 138 + len(pixels) + len(profile), 0, 0, 138) + header + pixels + profile


FORMATS: dict[str, Callable[[Rgb, bytes], bytes]] = {
    "JPEG": lambda colour, profile: plain("JPEG", colour, profile, quality=95),
    "PNG": lambda colour, profile: plain("PNG", colour, profile),
    "PNG of a palette": lambda colour, profile: saved(
        Image.new("RGB", (64, 64), colour).quantize(2), "PNG", icc_profile=profile
    ),
    "PNG of 16 bits": lambda colour, profile: png_of(
        struct.pack(">3H", *(257 * level for level in colour)) * 64, 16, 2, png_chunk(b"iCCP", packed(profile))
    ),
    "WEBP": lambda colour, profile: plain("WEBP", colour, profile, lossless=True),
    "WEBP with alpha": lambda colour, profile: saved(
        Image.new("RGBA", (64, 64), (*colour, 255)), "WEBP", lossless=True, icc_profile=profile
    ),
    "TIFF": lambda colour, profile: plain("TIFF", colour, profile),
    "TIFF of YCbCr": lambda colour, profile: saved(
        Image.new("RGB", (64, 64), colour).convert("YCbCr"), "TIFF", icc_profile=profile
    ),
    "AVIF": lambda colour, profile: plain("AVIF", colour, profile, quality=95),
    "BMP": lambda colour, profile: bmp_with(profile, colour),
}


def plain(format_name: str, colour: Rgb, profile: bytes, **options: Any) -> bytes:
    return saved(Image.new("RGB", (64, 64), colour), format_name, icc_profile=profile, **options)


def packed(profile: bytes) -> bytes:
    return b"name\0\0" + zlib.compress(profile)


@pytest.mark.parametrize("profile", [DISPLAY_P3, ADOBE_RGB, SRGB], ids=["Display P3", "Adobe RGB", "sRGB"])
@pytest.mark.parametrize("format_name", FORMATS)
def test_an_rgb_profile_is_followed_in_every_format(format_name: str, profile: bytes) -> None:
    assert_colour(FORMATS[format_name](within(profile, GREEN), profile), GREEN)


@pytest.mark.parametrize(
    ("format_name", "level"),
    [
        ("JPEG", np.uint8(LINEAR_GREY)),
        ("PNG", np.uint8(LINEAR_GREY)),
        ("PNG", np.uint16(257 * LINEAR_GREY)),
        ("TIFF", np.uint8(LINEAR_GREY)),
        ("TIFF", np.uint16(257 * LINEAR_GREY)),
    ],
)
def test_a_grey_profile_is_followed(format_name: str, level: np.generic) -> None:
    grey = Image.fromarray(np.full((64, 64), level))
    assert_colour(saved(grey, format_name, icc_profile=GREY_LINEAR), GREY)


def test_a_profile_is_followed_before_transparency_is_laid_on_white() -> None:
    grey = Image.new("LA", (64, 64), (LINEAR_GREY, 255))
    grey.paste((0, 0), (0, 0, 32, 64))
    assert colours(saved(grey, "PNG", icc_profile=GREY_LINEAR)) in ([GREY, (255,) * 3], [(255,) * 3, GREY])


@pytest.mark.parametrize("options", [{"format_name": "JPEG", "quality": 95}, {"format_name": "TIFF"}])
def test_a_press_s_profile_is_followed(options: dict[str, Any]) -> None:
    cyan = Image.new("CMYK", (64, 64), (255, 0, 0, 0))
    assert_colour(saved(cyan, icc_profile=PRESS, **options), (0x00, 0x96, 0xDA))
    assert_colour(saved(cyan, **options), (0, 255, 255))


BROKEN = {
    "short": DISPLAY_P3[:200],
    "no profile": b"x" * 500,
    "no signature": DISPLAY_P3[:36] + b"none" + DISPLAY_P3[40:],
    "too many tags": DISPLAY_P3[:128] + b"\xff\xff\xff\xff" + DISPLAY_P3[132:],
    "of a press": PRESS,
    "with elements without end": DISPLAY_P3 + b"mpet",
    "of 5 MB": DISPLAY_P3 + bytes(5_000_000),
}


@pytest.mark.parametrize("profile", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_profile_that_is_no_use_does_not_spoil_the_picture(format_name: str, profile: bytes) -> None:
    assert_colour(FORMATS[format_name](GREEN, profile), GREEN)


def gamma(exponent: float) -> bytes:
    return png_chunk(b"gAMA", struct.pack(">I", round(exponent * 100_000)))


def primaries(*chromaticity: float) -> bytes:
    return png_chunk(b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in chromaticity)))


OF_P3 = primaries(0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
OF_SRGB = primaries(0.3127, 0.329, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
SRGB_CHUNK = png_chunk(b"sRGB", b"\0")
GREEN_IN_P3, LINEAR = bytes(within(DISPLAY_P3, GREEN)), bytes([LINEAR_GREY])
PALETTE = png_chunk(b"PLTE", LINEAR * 3 + GREEN_IN_P3)


@pytest.mark.parametrize(
    ("data", "expected"),
    {
        "grey": (png_of(LINEAR * 64, 8, 0, gamma(1)), GREY),
        "grey of 16 bits": (png_of(LINEAR * 128, 16, 0, gamma(1)), GREY),
        "grey with alpha": (png_of((LINEAR + b"\xff") * 64, 8, 4, gamma(1)), GREY),
        "RGB": (png_of(LINEAR * 192, 8, 2, gamma(1)), GREY),
        "RGB of 16 bits": (png_of(LINEAR * 384, 16, 2, gamma(1)), GREY),
        "RGB with alpha": (png_of((LINEAR * 3 + b"\xff") * 64, 8, 6, gamma(1)), GREY),
        "palette": (png_of(bytes(64), 8, 3, gamma(1) + PALETTE), GREY),
        "of an old Mac": (png_of(bytes([100]) * 192, 8, 2, gamma(1 / 1.8)), (119, 119, 119)),
        "primaries": (png_of(GREEN_IN_P3 * 64, 8, 2, gamma(0.45455) + OF_P3), GREEN),
        "primaries alone": (png_of(GREEN_IN_P3 * 64, 8, 2, OF_P3), GREEN),
        "primaries of a palette": (png_of(b"\1" * 64, 8, 3, gamma(0.45455) + OF_P3 + PALETTE), GREEN),
        "sRGB by its numbers": (png_of(bytes(GREEN) * 64, 8, 2, gamma(0.45455) + OF_SRGB), GREEN),
        "sRGB by its name": (png_of(bytes(GREEN) * 64, 8, 2, gamma(1) + OF_P3 + SRGB_CHUNK), GREEN),
        "no gamma": (png_of(bytes(GREEN) * 64, 8, 2, gamma(0)), GREEN),
        "no primaries": (png_of(bytes(GREEN) * 64, 8, 2, primaries(*[0] * 8)), GREEN),
        "primaries that are one": (png_of(bytes(GREEN) * 64, 8, 2, primaries(*[0.3, 0.3] * 4)), GREEN),
    }.values(),
)
def test_a_png_s_gamma_and_primaries_are_followed_where_it_has_no_profile(data: bytes, expected: Rgb) -> None:
    assert_colour(data, expected)
