"""What decoding an upload will cost at most, from its headers: cheap to tell, and infinite where nothing bounds it."""

from __future__ import annotations

import math
import re
import struct

from deployments.errors import UnreadablePicture
from serve_app.pictures import png_chunks
from serve_app.pictures.refusals import JPEG_MAGIC
from serve_app.settings import ImageSettings

MOST_PIECES = 5000
"""Chunks, segments or blocks that are walked through. 20 MB in IDAT chunks of 8 KB, as libpng writes them, are 2,500;
Pillow spends some microseconds of Python on each, so that 20 MB of empty ones hold the interpreter for 3 to 5 s."""

NS = 1e-9

BMP_MAGIC = b"BM"

# CPU nanoseconds, rounded up from `read_picture` with Pillow 13 on an AMD EPYC: 100 megapixels of each kind for those
# of a pixel, 15 to 20 MB of noise for those of a byte. Hostile files of these kinds cost up to some times as much.
JPEG_PIXEL, JPEG_WHOLE_PIXEL, JPEG_BYTE, JPEG_HEADER_BYTE = 3, 12, 10, 200
PROGRESSIVE_PIXEL, SCAN_PIXEL, PROGRESSIVE_BYTE = 6, 0.3, 30
PNG_PIXEL, PNG_SAMPLE_BYTE, WEBP_PIXEL, GIF_PIXEL = 5, 5, 30, 12
BMP_BYTE, PACKED_BYTE = 15, 20
PROFILE_BYTE = 8000
"""LittleCMS goes through every stage that a profile names, for each pixel of the small square."""

_SCAN = b"\xff\xda"
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""What ends the data of a JPEG's scan: no stuffed byte, no restart, no filler."""

_START_OF_SCAN, _END_OF_IMAGE, _FIRST_WITH_LENGTH, _SOI = 0xDA, 0xD9, 0xC0, 0xD8
_FRAMES = range(0xC0, 0xD0)
_NO_FRAMES = (0xC4, 0xC8, 0xCC)
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_PROFILE_SEGMENT, _PROFILE_MARK = 0xE2, b"ICC_PROFILE\0"

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel by a PNG's colour type."""

_PROFILES = (b"iCCP", b"ICCP")
"""Of a PNG, and of a WebP."""

_UNPACKED_BMP = (0, 3)
_OLD_BMP_HEADER_BYTES, _BMP_HEADER_WITH_PROFILE_BYTES = 12, 124


def decoding_cost_s(data: bytes, settings: ImageSettings) -> float:
    """Estimate the seconds of CPU that `read_picture` will take for an upload.

    Infinite for what its headers do not bound: broken ones, more than `MOST_PIECES`, arithmetic-coded JPEG, packed
    BMP (decoded in Python), TIFF (a strip may be told to be read a thousand times, a tile may be a JPEG of any number
    of scans), AVIF (any number of hidden frames), and what we do not know.

    Raises:
        UnreadablePicture: a JPEG of more than `max_scans` scans.
    """
    try:
        if data.startswith(JPEG_MAGIC):
            return _jpeg(data, settings) * NS
        if data.startswith(png_chunks.MAGIC):
            return _png(data) * NS
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data) * NS
        if data[:6] in (b"GIF87a", b"GIF89a"):
            return _gif(data) * NS
        if data.startswith(BMP_MAGIC):
            return _bmp(data) * NS
    except (struct.error, IndexError):
        pass  # A header is cut off.
    return math.inf


def _jpeg(data: bytes, settings: ImageSettings) -> float:
    at, pixels, frame, colours, profile_bytes, pieces = 2, 0, -1, 0, 0, 0
    while True:
        # Pillow goes through what is between segments byte by byte.
        found = _MARKER.search(data, at, at + MOST_PIECES)
        pieces += 1 + (found.start() - at if found else 0)
        if found is None or pieces > MOST_PIECES:
            return math.inf
        marker, at = data[found.end() - 1], found.end()
        if marker == _START_OF_SCAN:
            break
        if marker in _FRAMES and marker not in _NO_FRAMES:
            height, width = _numbers(">HH", data, at + 3)
            frame, pixels, colours = marker, max(pixels, width * height), data[at + 7]
        length = _length(data, at) if marker >= _FIRST_WITH_LENGTH and marker not in (_SOI, _END_OF_IMAGE) else 0
        if marker == _PROFILE_SEGMENT and data.startswith(_PROFILE_MARK, at + 2):
            profile_bytes += length
        at += length
    if frame not in (_BASELINE, _EXTENDED, _PROGRESSIVE):
        return math.inf
    scans: float = 1
    # libjpeg reads no further than the first scan, where that is all of the picture.
    if frame == _PROGRESSIVE or data[at + 2] != colours:
        # Counting these bytes is quick, telling which of them begin a scan is not; by chance 20 MB hold 300.
        scans = data.count(_SCAN, at - 2)
    if scans > settings.max_scans:
        scans = _scans(data, at, settings.max_scans)
    cost = at * JPEG_HEADER_BYTE + profile_bytes * PROFILE_BYTE + (pixels * JPEG_WHOLE_PIXEL if settings.exact else 0)
    if frame == _PROGRESSIVE or scans > 1:
        return cost + pixels * (PROGRESSIVE_PIXEL + SCAN_PIXEL * scans) + len(data) * PROGRESSIVE_BYTE
    return cost + pixels * JPEG_PIXEL + len(data) * JPEG_BYTE


def _length(data: bytes, at: int) -> int:
    return _numbers(">H", data, at)[0]


def _numbers(layout: str, data: bytes, at: int) -> tuple[int, ...]:
    return struct.unpack_from(layout, data, at)


def _scans(data: bytes, at: int, most: int) -> float:
    """Count the scans as libjpeg finds them, the first of which begins at `at`."""
    scans = 1
    at += _length(data, at)
    for _ in range(MOST_PIECES):
        found = _MARKER.search(data, at)
        if found is None or data[found.end() - 1] == _END_OF_IMAGE:
            return scans
        marker, at = data[found.end() - 1], found.end()
        if marker == _START_OF_SCAN:
            scans += 1
            if scans > most:
                raise UnreadablePicture(
                    f"The picture is a JPEG of more than {most} scans, where others have 10: save it anew and send it "
                    "again."
                )
        if marker >= _FIRST_WITH_LENGTH and marker != _SOI:
            at += _length(data, at)
    return math.inf


def _png(data: bytes) -> float:
    width, height, bits, colour_type = _numbers(">IIBB", data, 16)
    pixel = PNG_PIXEL + PNG_SAMPLE_BYTE * _SAMPLES.get(colour_type, 4) * bits / 8
    return width * height * pixel + len(data) * PACKED_BYTE + _profiles(data, ">I4s", len(png_chunks.MAGIC))


def _webp(data: bytes) -> float:
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":
        (packed,) = _numbers("<I", data, 21)
        width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in _numbers("<HH", data, 26))
    else:
        return math.inf
    return width * height * WEBP_PIXEL + len(data) * PACKED_BYTE + _profiles(data, "<4sI", 12)


def _profiles(data: bytes, layout: str, at: int) -> float:
    """Give the cost of a PNG's profiles, or of a RIFF's; infinite where there is too much to walk through."""
    profile_bytes = 0
    for _ in range(MOST_PIECES):
        if at + 8 > len(data):
            return profile_bytes * PROFILE_BYTE
        first, second = struct.unpack_from(layout, data, at)
        kind, length = (second, first) if layout.startswith(">") else (first, second)
        profile_bytes += length if kind in _PROFILES else 0
        at += 8 + length + (4 if layout.startswith(">") else length % 2)
    return math.inf


def _gif(data: bytes) -> float:
    width, height, flags = _numbers("<HHB", data, 6)
    at = 13 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0)
    in_extension = False
    for _ in range(MOST_PIECES):
        if in_extension:
            in_extension = data[at] != 0
            at += data[at] + 1
        elif data[at] == ord(","):
            left, top, drawn_width, drawn_height = _numbers("<4H", data, at + 1)
            pixels = max(width, left + drawn_width) * max(height, top + drawn_height)
            return pixels * GIF_PIXEL + len(data) * PACKED_BYTE
        else:
            in_extension = data[at] == ord("!")
            at += 2 if in_extension else 1
    return math.inf


def _bmp(data: bytes) -> float:
    (header_bytes,) = _numbers("<I", data, 14)
    if header_bytes == _OLD_BMP_HEADER_BYTES:
        return len(data) * BMP_BYTE
    (packing,) = _numbers("<I", data, 30)
    profile_bytes = _numbers("<I", data, 130)[0] if header_bytes >= _BMP_HEADER_WITH_PROFILE_BYTES else 0
    return len(data) * BMP_BYTE + profile_bytes * PROFILE_BYTE if packing in _UNPACKED_BMP else math.inf
