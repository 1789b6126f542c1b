"""The first directory of a TIFF file, which EXIF is too."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_ORDERS = {b"II": "<", b"MM": ">"}
_BIG = 43
"""What a file's third or fourth byte is, if its places and lengths are of 64 bits."""

_MOST_TAGS = 1000
"""Cameras and editors write 20 to 60."""

ORIENTATION = 274

_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
"""Types of whole numbers, as struct names them."""

# fmt: off
_OF_PIXELS = frozenset((
    254, 255, 256, 257, 258, 259, 262, 266,  # kind, size, bits, compression, what the numbers mean, order of bits
    273, 277, 278, 279, 284, 322, 323, 324, 325,  # strips, planes, tiles
    292, 293, 317, 347, *range(512, 522), 529, 530, 531, 532,  # settings of fax, LZW, JPEG and YCbCr
    320, 332, 334, 338, 339, 34675,  # palette, inks, alpha, floating point, ICC profile
))
# fmt: on


def orientation(data: bytes) -> int:
    """Give the orientation that the first directory tells, from 1 to 8, or 0."""
    value = whole_numbers(data).get(ORIENTATION, 0)
    return value if 1 <= value <= 8 else 0


def whole_numbers(data: bytes) -> dict[int, int]:
    """Give by its tag the first number of each entry that holds whole ones, and of what is told twice the first."""
    numbers: dict[int, int] = {}
    for layout, at in _entries(data):
        tag, kind, count = struct.unpack_from(layout.head, data, at)
        if kind not in _WHOLE_NUMBERS or tag in numbers:
            continue
        number = struct.Struct(layout.head[0] + _WHOLE_NUMBERS[kind])
        value_at = at + struct.calcsize(layout.head)
        if number.size * count > struct.calcsize(layout.place):
            (value_at,) = struct.unpack_from(layout.place, data.ljust(at + layout.step_bytes, b"\0"), value_at)
        if value_at + number.size <= len(data):
            (numbers[tag],) = number.unpack_from(data, value_at)
    return numbers


def without_burden(data: bytes) -> bytes:
    """Blank what a picture's pixels do not need: a malformed tag makes Pillow refuse the whole."""
    blanked = bytearray(data)
    for layout, at in _entries(data):
        tag, _, _ = struct.unpack_from(layout.head, data, at)
        if tag not in _OF_PIXELS:
            blanked[at + 2 : at + 4] = b"\0\0"  # No type, so that it is passed over.
    return bytes(blanked)


class _Layout(NamedTuple):
    """How struct reads a directory: its place, its number of entries, and of each its tag, type and length."""

    place: str
    entries: str
    head: str
    step_bytes: int
    first_at: int


def _entries(data: bytes) -> Iterator[tuple[_Layout, int]]:
    """Give how each entry is laid out, and where it begins."""
    order = _ORDERS.get(data[:2])
    if order is None:
        return
    if _BIG in data[2:4]:
        layout = _Layout(order + "Q", order + "Q", order + "HHQ", 20, 8)
    else:
        layout = _Layout(order + "I", order + "H", order + "HHI", 12, 4)
    try:
        (at,) = struct.unpack_from(layout.place, data, layout.first_at)
        (tags,) = struct.unpack_from(layout.entries, data, at)
    except (struct.error, OverflowError):  # It ends before its directory does.
        return
    at += struct.calcsize(layout.entries)
    for _ in range(min(tags, _MOST_TAGS)):
        if at + struct.calcsize(layout.head) + 2 > len(data):
            return
        yield layout, at
        at += layout.step_bytes
