"""Pictures come out upright, whatever else their EXIF holds."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from serve_app.pictures.images import read_picture
from serve_app.settings import ImageSettings
from tests.support.pictures import exif, png_chunk, saved

# What turns an upright picture to how it is stored: the opposite of the turn that the number asks for.
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
MALFORMED = 60
COMMON_TAGS = (0x10F, 0x110, 0x11A, 0x11B, 0x128, 0x131, 0x132, 0x8769, 0x8825, 0x927C, 0x14A, 0x2BC)
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def quarters() -> Image.Image:
    """Red, green / blue, white; wider than tall."""
    image = Image.new("RGB", (64, 48), (255, 255, 255))
    image.paste((255, 0, 0), (0, 0, 32, 24))
    image.paste((0, 255, 0), (32, 0, 64, 24))
    image.paste((0, 0, 255), (0, 24, 32, 48))
    return image


def stored(orientation: int) -> Image.Image:
    return quarters().transpose(STORED[orientation]) if orientation in STORED else quarters()


def assert_upright(data: bytes) -> None:
    for exact in (False, True):
        picture = read_picture(data, ImageSettings(exact=exact), 224)
        pixels = picture.pixels
        corners = np.array([pixels[y, x] for y in (56, 168) for x in (56, 168)], int)
        assert np.abs(corners - [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]).max() <= 30, corners
        assert picture.aspect_ratio == "4:3"


def with_exif(image: Image.Image, format_name: str, data: bytes) -> bytes:
    if format_name == "PNG":
        png = saved(image, "PNG")
        return png[:-12] + png_chunk(b"eXIf", data.removeprefix(b"Exif\0\0")) + png[-12:]
    return saved(image, format_name, exif=data, quality=95, **({"lossless": True} if format_name == "WEBP" else {}))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_format_says(orientation: int, format_name: str, order: str) -> None:
    if format_name == "TIFF":
        options = {"compression": "tiff_lzw"} if order == ">" else {}
        assert_upright(saved(stored(orientation), "TIFF", tiffinfo={274: orientation}, **options))
    else:
        assert_upright(with_exif(stored(orientation), format_name, exif(orientation, order)))


@pytest.mark.parametrize("kind", [1, 3, 4])
@pytest.mark.parametrize("order", "<>")
def test_the_orientation_may_be_of_any_whole_number(kind: int, order: str) -> None:
    assert_upright(with_exif(stored(6), "JPEG", exif(6, order, kind=kind)))


def malformed_entry(choice: random.Random, order: str) -> bytes:
    kind, count = choice.randrange(20), choice.choice((0, 1, 2, 5, 1000, 2**31, 2**32 - 1))
    return struct.pack(f"{order}HHI", choice.choice(COMMON_TAGS), kind, count) + choice.randbytes(4)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("order", "<>")
def test_malformed_tags_do_not_keep_a_picture_from_being_turned(format_name: str, order: str) -> None:
    choice = random.Random(f"{format_name} {order}")  # noqa: S311 - no secret
    for _ in range(MALFORMED):
        rest = b"".join(malformed_entry(choice, order) for _ in range(choice.randint(1, 3)))
        assert_upright(with_exif(stored(6), format_name, exif(6, order, rest=rest)))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}])
def test_malformed_tags_do_not_spoil_a_tiff(options: dict[str, str]) -> None:
    choice = random.Random(7)  # noqa: S311 - no secret
    tiff = saved(stored(6), "TIFF", tiffinfo={274: 6}, **options)
    (directory,) = struct.unpack_from("<I", tiff, 4)
    (tags,) = struct.unpack_from("<H", tiff, directory)
    entries = [tiff[at : at + 12] for at in range(directory + 2, directory + 2 + 12 * tags, 12)]
    for _ in range(MALFORMED):
        more = [malformed_entry(choice, "<") for _ in range(choice.randint(1, 3))]
        written = sorted((*entries, *more), key=lambda entry: struct.unpack_from("<H", entry))
        body = tiff + bytes(len(tiff) % 2)
        body = body[:4] + struct.pack("<I", len(body)) + body[8:]
        assert_upright(body + struct.pack("<H", len(written)) + b"".join(written) + bytes(4))


def test_xmp_is_not_asked_as_browsers_do_not() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    for data in (
        saved(quarters(), "JPEG", quality=95, xmp=XMP),
        saved(quarters(), "PNG", pnginfo=text),
        saved(quarters(), "WEBP", lossless=True, xmp=XMP),
        saved(quarters(), "AVIF", quality=95, xmp=XMP),
        saved(quarters(), "TIFF", tiffinfo={700: XMP}),
    ):
        assert_upright(data)
