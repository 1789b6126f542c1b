"""Uploads that are small, or at least allowed, and take long to decode: one trick of each format.

SLOW["jpeg of scans"]()    its bytes, made anew
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

from PIL import Image

from tests.support.pictures import png_chunk

SCANS = 2000
UPLOAD_BYTES = 20_000_000
EDGE_PX = 10_000
"""Of a square of a hundred megapixels, which is the limit."""


def saved(image: Image.Image, format_name: str, **options: Any) -> bytes:
    """Give a picture's file."""
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def jpeg_of_scans(scans: int, edge_px: int = EDGE_PX, *, progressive: bool = True) -> bytes:
    """Give a grey JPEG that is gone over again and again, or one of three colours, each of which is sent anew."""
    tables = _segment(0xDB, b"\0" + b"\x10" * 64)
    for kind, value in ((0x00, 0x00), (0x10, 0xE0 if progressive else 0x00)):
        tables += _segment(0xC4, bytes([kind, 1, *bytes(15), value]))
    colours = (1,) if progressive else (1, 2, 3)
    frame = struct.pack(">BHHB", 8, edge_px, edge_px, len(colours)) + b"".join(bytes([c, 0x11, 0]) for c in colours)
    data = b"\xff\xd8" + tables + _segment(0xC2 if progressive else 0xC0, frame)
    if progressive:
        # Brightness once, then the details: none, for 32,767 blocks at a time.
        blocks = ((edge_px + 7) // 8) ** 2
        data += _segment(0xDA, b"\1\1\0\0\0\0") + bytes(blocks // 8 + 1)
        data += (_segment(0xDA, b"\1\1\0\1\x3f\0") + b"\x7f" * (blocks // 32_767 + 1) * 2) * (scans - 1)
    else:
        one = b"".join(_segment(0xDA, bytes([1, colour, 0, 0, 63, 0])) + b"\0" for colour in colours)
        data += one * (scans // len(colours))
    return data + b"\xff\xd9"


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg_of_filler(size_bytes: int = UPLOAD_BYTES) -> bytes:
    """Give what begins as a JPEG and goes on with bytes that may stand before a marker: Pillow looks at each."""
    return b"\xff\xd8" + b"\xff" * (size_bytes - 2)


def _jpeg_of_segments() -> bytes:
    jpeg = saved(Image.new("RGB", (16, 16)), "JPEG")
    return jpeg[:2] + _segment(0xE5, b"") * (UPLOAD_BYTES // 4) + jpeg[2:]


def _png_of_chunks() -> bytes:
    png = saved(Image.new("RGB", (16, 16)), "PNG")
    return png[:33] + png_chunk(b"aaAa", b"") * (UPLOAD_BYTES // 12) + png[33:]


def deep_png() -> bytes:
    """Give a PNG of a hundred megapixels of eight bytes, each line to be told from the one above."""
    packer = zlib.compressobj(1)
    lines = b"\4" + bytes(8 * EDGE_PX)
    packed = b"".join(packer.compress(lines) for _ in range(EDGE_PX)) + packer.flush()
    header = struct.pack(">IIBBBBB", EDGE_PX, EDGE_PX, 16, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def _gif_of_comments() -> bytes:
    gif = saved(Image.new("P", (16, 16)), "GIF")
    start = gif.index(b",", 13)
    return gif[:start] + b"!\xfe" + b"\1a" * (UPLOAD_BYTES // 2) + b"\0" + gif[start:]


def _packed_bmp() -> bytes:
    """Give a BMP whose pixels come one by one, which Pillow unpacks in Python."""
    edge_px = 3000
    lines = (b"\1\0" * edge_px + b"\0\0") * edge_px + b"\0\1"
    at = 14 + 40 + 1024
    header = struct.pack("<IiiHHIIiiII", 40, edge_px, edge_px, 1, 8, 1, len(lines), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", at + len(lines), 0, 0, at) + header + bytes(1024) + lines


def _tiff_of_one_strip() -> bytes:
    """Give a TIFF each of whose ten thousand lines is the same strip of nearly all of the file, bits reversed."""
    strip = zlib.compress(bytes(EDGE_PX)).ljust(UPLOAD_BYTES - 200_000, b"\0")
    strip = strip.translate(bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256)))
    arrays = b"".join(struct.pack("<I", number) * EDGE_PX for number in (8, len(strip)))
    at = 8 + len(strip)
    numbers = {256: EDGE_PX, 257: EDGE_PX, 258: 8, 259: 8, 262: 1, 266: 2, 277: 1, 278: 1}
    tags = {tag: (4, 1, number) for tag, number in numbers.items()}
    tags |= {273: (4, EDGE_PX, at), 279: (4, EDGE_PX, at + 4 * EDGE_PX)}
    directory = b"".join(struct.pack("<HHII", tag, *tags[tag]) for tag in sorted(tags)) + bytes(4)
    return b"II*\0" + struct.pack("<I", at + len(arrays)) + strip + arrays + struct.pack("<H", len(tags)) + directory


SLOW: dict[str, Callable[[], bytes]] = {
    "jpeg of scans": lambda: jpeg_of_scans(SCANS),
    "jpeg of scans, not progressive": lambda: jpeg_of_scans(SCANS, progressive=False),
    "jpeg of filler": jpeg_of_filler,
    "jpeg of segments": _jpeg_of_segments,
    "png of chunks": _png_of_chunks,
    "png, deep": deep_png,
    "gif of comments": _gif_of_comments,
    "webp without loss": lambda: saved(Image.new("RGB", (16_383, 6_103)), "WEBP", lossless=True, quality=0, method=0),
    "bmp, packed": _packed_bmp,
    "tiff of one strip": _tiff_of_one_strip,
    "avif": lambda: saved(Image.new("RGB", (EDGE_PX // 2, EDGE_PX // 2)), "AVIF", speed=10),
}
"""Name → how it is made. The first two are refused for their scans; the others take 0.3 to 6 s of CPU."""

REFUSED = ("jpeg of scans", "jpeg of scans, not progressive")
