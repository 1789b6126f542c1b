"""Which way up a picture is: EXIF's word, whatever else EXIF holds. Browsers do not ask XMP, and neither do we."""

from __future__ import annotations

import struct

from PIL import Image

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Orientation, as EXIF and XMP number them → what makes the picture upright; 1 is upright."""

_TURNED_BY_PILLOW = "TIFF"
"""Its plugin turns while loading; the others leave it to us."""

_ORIENTATION_TAG = 274

_MOST_TAGS = 1000
"""Cameras write some 20 into the first directory."""

_VALUES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
"""EXIF's types of whole numbers, as struct names them."""


def upright(square: Image.Image, source: Image.Image) -> Image.Image:
    """Turn a square as the loaded picture that it was made of says.

    Only the one tag is read: Pillow's own `exif_transpose` fails where it cannot write the rest anew (its issue 4215).
    """
    if source.format == _TURNED_BY_PILLOW:
        return square
    turn = _TURNS.get(_in_exif(source.info.get("exif") or b""))
    return square if turn is None else square.transpose(turn)


def _in_exif(exif: bytes) -> int:
    """Give the orientation that EXIF's first directory tells, or 0."""
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 0
    try:
        (at,) = struct.unpack_from(order + "I", exif, 4)
        (tags,) = struct.unpack_from(order + "H", exif, at)
        for entry in range(at + 2, at + 2 + 12 * min(tags, _MOST_TAGS), 12):
            tag, kind = struct.unpack_from(order + "HH", exif, entry)
            if tag == _ORIENTATION_TAG and kind in _VALUES:
                (orientation,) = struct.unpack_from(order + _VALUES[kind], exif, entry + 8)
                if 1 <= orientation <= 8:
                    return int(orientation)
    except struct.error:  # EXIF ends before its directory does.
        pass
    return 0
