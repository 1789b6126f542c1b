"""Which way up a picture is: EXIF's word, whatever else EXIF holds. Browsers do not ask XMP, and neither do we."""

from __future__ import annotations

from typing import NamedTuple

from PIL import Image

from serve_app.pictures import tiff_directory

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Orientation, as EXIF numbers it → what makes the picture upright; 1 is upright."""

_LYING = frozenset({5, 6, 7, 8})
"""Those whose width becomes the height."""

_EXIF_MARK = b"Exif\0\0"


class View(NamedTuple):
    """The square that a picture was shrunk to, its own sides, and it with its aspect kept where that is wanted.

    Both pictures are small, and of mode RGB.
    """

    square: Image.Image
    width_px: int
    height_px: int
    whole: Image.Image | None = None


def upright(view: View, exif: bytes) -> View:
    """Turn the pictures, and the sides, as the EXIF, or the TIFF file, of the picture says that it was made of.

    Only the one tag is read: Pillow's own `exif_transpose` fails where it cannot write the rest anew (its issue 4215).
    """
    while exif.startswith(_EXIF_MARK):
        exif = exif[len(_EXIF_MARK) :]
    number = tiff_directory.orientation(exif)
    if number not in _TURNS:
        return view
    square, *sides, whole = view
    width_px, height_px = reversed(sides) if number in _LYING else sides
    turn = _TURNS[number]
    return View(square.transpose(turn), width_px, height_px, whole and whole.transpose(turn))
