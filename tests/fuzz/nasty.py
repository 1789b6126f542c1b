"""Uploads made to hurt: small files that promise much, files that are two things, files with broken parts."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

from PIL import Image

from tests.support.pictures import header_of_png, photograph

HUGE_PX = 60_000
INFLATED_BYTES = 300_000_000
FRAMES = 10_000


def saved(image: Image.Image, format_name: str, **options: Any) -> bytes:
    """Give a picture's file."""
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


SMALL = photograph("rocket").resize((64, 48))
JPEG, PNG, GIF = saved(SMALL, "JPEG"), saved(SMALL, "PNG"), saved(SMALL, "GIF")
HTML = b"<html><script>alert(1)</script></html>"
ZIP = b"PK\x03\x04" + bytes(26) + b"PK\x05\x06" + bytes(18)


def rotation(number: int) -> bytes:
    """Give EXIF data with this orientation and nothing else."""
    return b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + struct.pack("<HHI", number, 0, 0)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Give a chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_with(chunk: bytes) -> bytes:
    """Give a good PNG with a chunk after its header."""
    return PNG[:33] + chunk + PNG[33:]


def inflating(kind: bytes, name: bytes) -> bytes:
    """Give a PNG with 300 MB of text or colour profile, packed into 300 KB."""
    return png_with(png_chunk(kind, name + b"\0\0" + zlib.compress(bytes(INFLATED_BYTES), 9)))


def resized_in_header(data: bytes, at: int, layout: str) -> bytes:
    """Write huge dimensions over those of a file."""
    return data[:at] + struct.pack(layout, HUGE_PX, HUGE_PX) + data[at + struct.calcsize(layout) :]


def jpeg_bomb() -> bytes:
    """Give a small JPEG whose header says 60000 by 60000."""
    return resized_in_header(JPEG, JPEG.index(b"\xff\xc0") + 5, ">HH")


def animated_gif() -> bytes:
    """Give a GIF with ten thousand frames."""
    frame = b"\x21\xf9\x04\0\0\0\0\0\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0"
    return b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff" + frame * FRAMES + b";"


def endless_directory() -> bytes:
    """Give a TIFF whose directory says that it comes after itself."""
    tiff = saved(SMALL, "TIFF")
    (first,) = struct.unpack("<I", tiff[4:8])
    (count,) = struct.unpack("<H", tiff[first : first + 2])
    behind = first + 2 + 12 * count
    return tiff[:behind] + struct.pack("<I", first) + tiff[behind + 4 :]


NASTY: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "one_byte": lambda: b"\xff",
    "png_bomb": lambda: header_of_png(HUGE_PX, HUGE_PX),
    "png_no_width": lambda: header_of_png(0, 5),
    "png_largest_width": lambda: header_of_png(2**31 - 1, 2**31 - 1),
    "jpeg_bomb": jpeg_bomb,
    "gif_bomb": lambda: resized_in_header(GIF, 6, "<HH"),
    "bmp_bomb": lambda: resized_in_header(saved(SMALL, "BMP"), 18, "<ii"),
    "bmp_negative": lambda: saved(SMALL, "BMP")[:18] + struct.pack("<ii", -5, -(2**31)) + saved(SMALL, "BMP")[26:],
    "webp_bomb": lambda: resized_in_header(saved(SMALL, "WEBP"), 26, "<HH"),
    "tiff_endless": endless_directory,
    "thin": lambda: saved(Image.new("RGB", (1, 50_000)), "PNG"),
    "flat": lambda: saved(Image.new("RGB", (50_000, 1)), "PNG"),
    "pixel": lambda: saved(Image.new("RGB", (1, 1)), "PNG"),
    "many_frames": animated_gif,
    "many_pages": lambda: saved(SMALL, "TIFF", save_all=True, append_images=[SMALL] * 300),
    "text_inflates": lambda: inflating(b"zTXt", b"Comment"),
    "profile_inflates": lambda: inflating(b"iCCP", b"icc"),
    "profile_broken": lambda: saved(SMALL, "JPEG", icc_profile=b"no profile" * 100),
    "exif_broken": lambda: saved(SMALL, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
    "exif_strange_rotation": lambda: saved(SMALL, "JPEG", exif=rotation(0xFFFF)),
    "html_behind": lambda: JPEG + HTML,
    "html_before": lambda: HTML + JPEG,
    "zip_behind": lambda: GIF + ZIP,
    "pdf_before": lambda: b"%PDF-1.7\n" + JPEG,
    "svg": lambda: b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "postscript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\nshowpage\n",
    "heic": lambda: b"\0\0\0\x18ftypheic\0\0\0\0heicmif1",
}
"""Name → how it is made."""
