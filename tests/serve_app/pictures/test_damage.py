"""What browsers show in spite of its damage is read, and what is not read is named for what it is."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from deployments.errors import FormatNotAccepted, UnreadablePicture
from serve_app.pictures.images import read_picture
from serve_app.settings import ImageSettings
from tests.support.pictures import CASES, photograph, png_chunk, png_of, saved

RED = bytes((200, 10, 10))
LONG_TEXT = np.random.default_rng(1).integers(97, 123, 3_000_000, np.uint8).tobytes()

ANCILLARY = {
    b"acTL": bytes(8),
    b"bKGD": bytes(6),
    b"cHRM": bytes(32),
    b"cICP": bytes((1, 13, 0, 1)),
    b"eXIf": b"MM\0*" + bytes(12),
    b"fcTL": bytes(26),
    b"gAMA": b"\0\0\xb1\x8f",
    b"hIST": bytes(2),
    b"iCCP": b"name\0\0" + zlib.compress(b"none"),
    b"iTXt": b"name\0\0\0\0\0text",
    b"oFFs": bytes(9),
    b"pHYs": bytes(9),
    b"prIv": b"what it likes",
    b"sBIT": bytes((8, 8, 8)),
    b"sPLT": b"name\0",
    b"sRGB": bytes(1),
    b"tEXt": b"name\0text",
    b"tIME": bytes(7),
    b"tRNS": bytes(6),
    b"zTXt": b"name\0\0" + zlib.compress(b"text"),
}

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda chunk: chunk,
    "checksum": lambda chunk: chunk[:-1] + bytes((chunk[-1] ^ 1,)),
    "empty": lambda chunk: png_chunk(chunk[4:8], b""),
    "twice": lambda chunk: chunk * 2,
}


def assert_red(data: bytes) -> None:
    (swatch,) = read_picture(data, ImageSettings(), 224).palette
    assert swatch.hex == "#c80a0a"


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", ANCILLARY)
def test_no_ancillary_chunk_spoils_a_png(kind: bytes, damage: str) -> None:
    chunk = DAMAGES[damage](png_chunk(kind, ANCILLARY[kind]))
    assert_red(png_of(RED * 64, 8, 2, before=chunk))
    assert_red(png_of(RED * 64, 8, 2, behind=chunk))


@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"tEXt", b"workflow\0" + LONG_TEXT),
        png_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(LONG_TEXT)),
        png_chunk(b"iTXt", b"workflow\0\0\0\0\0" + LONG_TEXT),
        png_chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(LONG_TEXT)),
        png_chunk(b"iCCP", b"workflow\0\0" + zlib.compress(LONG_TEXT)),
        png_chunk(b"tEXt", b"workflow\0" + LONG_TEXT[:900_000]) * 15,
    ],
    ids=["tEXt", "zTXt", "iTXt", "iTXt packed", "iCCP", "many"],
)
def test_any_amount_of_text_leaves_a_png_readable(chunk: bytes) -> None:
    assert_red(png_of(RED * 64, 8, 2, before=chunk))
    assert_red(png_of(RED * 64, 8, 2, behind=chunk))


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"restart_marker_blocks": 7}], ids=str
)
@pytest.mark.parametrize("name", ["china", "page"])
def test_a_jpeg_without_its_end_is_read_and_one_without_its_half_is_not(name: str, options: dict[str, Any]) -> None:
    whole = saved(photograph(name), "JPEG", quality=88, **options)
    expected = read_picture(whole, ImageSettings(), 224).pixels.astype(int)
    for missing in (1, 2, 3, 20, len(whole) // 50):
        pixels = read_picture(whole[:-missing], ImageSettings(), 224).pixels
        assert (np.abs(pixels - expected).max(axis=-1) > 32).mean() < 0.1
    if "progressive" not in options:  # Of such a one the half of the file shows all of the picture.
        with pytest.raises(UnreadablePicture, match="broken"):
            read_picture(whole[: len(whole) // 2], ImageSettings(), 224)


def tiff(levels: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, levels, **options)
    return file.getvalue()


def film(brands: bytes) -> bytes:
    return b"\0\0\0\x1cftyp" + brands[:4] + b"\0\0\0\0" + brands + bytes(64)


@pytest.mark.parametrize(
    ("data", "sentence"),
    {
        "JPEG XL": (b"\xff\x0a" + bytes(50), "JPEG XL pictures are not accepted: send a JPEG"),
        "JPEG XL container": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "JPEG XL pictures are not accepted"),
        "HEIC": (film(b"heic"), "HEIC pictures are not accepted: export it as JPEG"),
        "HEIC by its second name": (film(b"mif1heic"), "HEIC pictures are not accepted"),
        "film": (film(b"isom"), "MP4, QuickTime and like files are not accepted"),
        "JPEG of 12 bits": ((CASES / "jpeg_12bit").read_bytes(), "JPEG of 12 bits a channel is not accepted: save it"),
        "RGB float": (tiff(np.zeros((8, 8, 3), np.float32), photometric="rgb"), r"\(RGB, 3 × 32 floating-point bits\)"),
        "float64": (tiff(np.zeros((8, 8))), r"TIFF \(grey, 1 × 64 floating-point bits\) is not accepted: save it"),
        "grey of 16 bits with alpha": (
            tiff(np.zeros((8, 8, 2), np.uint16), photometric="minisblack", extrasamples=["unassalpha"]),
            r"TIFF \(grey, 2 × 16 bits\)",
        ),
        "five channels": (
            tiff(np.zeros((8, 8, 5), np.uint8), photometric="minisblack", planarconfig="contig"),
            r"TIFF \(grey, 5 × 8 bits\)",
        ),
        "BigTIFF": (tiff(np.zeros((8, 8), np.uint8), bigtiff=True, byteorder=">"), r"TIFF \(BigTIFF, big-endian\)"),
    }.values(),
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_not_accepted_is_named_for_what_it_is(data: bytes, sentence: str) -> None:
    with pytest.raises(FormatNotAccepted, match=sentence):
        read_picture(data, ImageSettings(), 224)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
def test_base64_text_is_told_from_a_picture(format_name: str) -> None:
    text = base64.b64encode(saved(Image.new("RGB", (20, 20)), format_name))
    for data in (text, b"data:image/x;base64," + text, b'"' + text + b'"', base64.encodebytes(base64.b64decode(text))):
        with pytest.raises(UnreadablePicture, match="base64 text in place of the picture: decode it"):
            read_picture(data, ImageSettings(), 224)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"%PDF-1.7\n", "a PDF document"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"\n<svg></svg>", "an SVG drawing"),
        (b"<!DOCTYPE html>", "a web page"),
        (b'{"image": ""}', "JSON text"),
    ],
)
def test_a_document_is_named(data: bytes, named: str) -> None:
    with pytest.raises(UnreadablePicture, match=f"The upload is {named} and not a picture: send a JPEG"):
        read_picture(data, ImageSettings(), 224)
