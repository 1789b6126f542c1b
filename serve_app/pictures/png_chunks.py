"""What of a PNG file is handed to the decoder: pixels, colours and orientation, and no text."""

from __future__ import annotations

import struct
import zlib

from deployments.errors import UnreadablePicture

MAGIC = b"\x89PNG\r\n\x1a\n"

_HEADER = struct.Struct(">I4s")
"""Each chunk begins with the length of its content, and its kind; its checksum, as long as the former, ends it."""

_CHECKSUM_BYTES = 4

_ANCILLARY_BIT = 0x20
"""Of a kind's first letter: small letters name what a picture can be shown without."""

_COLOUR_TYPE_AT, _BITS_AT = 25, 24
_GREY, _RGB, _PALETTE = 0, 2, 3

_WANTED = {b"gAMA": (4, 4), b"cHRM": (32, 32), b"sRGB": (1, 1), b"iCCP": (4, 20 << 20), b"eXIf": (8, 1 << 20)}
"""Fewest and most bytes of the content of what is kept; of all else Pillow reads only text."""

_TRANSPARENCY = {_GREY: (2, 2), _RGB: (6, 6), _PALETTE: (1, 256)}
"""The same of tRNS, by the kind of picture; the others have an alpha channel."""

_MOST_INFLATED_BYTES = 1 << 20
"""Pillow refuses the whole picture for a profile above this."""

_MOST_CHUNKS = 100_000
"""20 MB in pieces of 8 KB, as libpng writes them, are 2,500; a file of empty chunks would have 1.7 million."""


def without_burden(data: bytes) -> bytes:
    """Leave out of a PNG what could spoil it and is not needed: broken, huge and unknown ancillary chunks, animation.

    A picture with a bad checksum in such a chunk, or with a workflow of megabytes in its text, is shown by browsers,
    and refused by Pillow (its issues 5978 and 8363). A transparent colour is brought to the 8 bits that Pillow decodes
    to; grey of 16 bits stays as it is. Text is never inflated, a profile once and
    to a megabyte at most.

    Raises:
        UnreadablePicture: of more chunks than any picture has.
    """
    kept: list[bytes | memoryview] = []
    view, kept_to, at = memoryview(data), 0, len(MAGIC)
    seen: set[bytes] = set()
    for _ in range(_MOST_CHUNKS):
        if at + _HEADER.size > len(data):
            break
        length, kind = _HEADER.unpack_from(data, at)
        end = at + _HEADER.size + length + _CHECKSUM_BYTES
        if kind[0] & _ANCILLARY_BIT:
            replaced = _wanted(data, kind, data[at : min(end, len(data))], seen)
            kept += (view[kept_to:at], replaced)
            kept_to = end
        at = end
    else:
        raise UnreadablePicture("The picture is cut into too many pieces: save it anew and send it again.")
    return b"".join((*kept, view[kept_to:])) if kept else data


def _wanted(data: bytes, kind: bytes, chunk: bytes, seen: set[bytes]) -> bytes:
    """Give the chunk as the decoder shall see it; nothing, if it is not wanted."""
    colour_type = data[_COLOUR_TYPE_AT]
    sizes = _TRANSPARENCY.get(colour_type) if kind == b"tRNS" else _WANTED.get(kind)
    content, checksum = chunk[_HEADER.size : -_CHECKSUM_BYTES], chunk[-_CHECKSUM_BYTES:]
    if sizes is None or kind in seen or not sizes[0] <= len(content) <= sizes[1]:
        return b""
    if int.from_bytes(checksum) != zlib.crc32(content, zlib.crc32(kind)):
        return b""
    seen.add(kind)
    if kind == b"iCCP":
        _, _, packed = content.partition(b"\0")
        return chunk if packed[:1] == b"\0" and _is_small(packed[1:]) else b""
    if kind == b"tRNS" and colour_type != _PALETTE:
        return _in_decoded_levels(content, data[_BITS_AT], colour_type)
    return chunk


def _is_small(packed: bytes) -> bool:
    inflater = zlib.decompressobj()
    try:
        return len(inflater.decompress(packed, _MOST_INFLATED_BYTES)) < _MOST_INFLATED_BYTES
    except zlib.error:
        return False


def _in_decoded_levels(colour: bytes, bits: int, colour_type: int) -> bytes:
    """Give the chunk with the transparent colour as pixels are decoded, where Pillow leaves it be (its issue 154)."""
    full = (1 << bits) - 1
    levels = [level & full for (level,) in struct.iter_unpack(">H", colour)]
    if colour_type == _RGB and bits == 16:
        levels = [level >> 8 for level in levels]
    elif colour_type == _GREY and 1 < bits < 8:
        levels = [level * (255 // full) for level in levels]
    content = struct.pack(f">{len(levels)}H", *levels)
    return _HEADER.pack(len(content), b"tRNS") + content + zlib.crc32(content, zlib.crc32(b"tRNS")).to_bytes(4)
