"""Which way up a picture is: EXIF's word, whatever else EXIF holds. Browsers do not ask XMP, and neither do we."""

from __future__ import annotations

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

_EXIF_MARK = b"Exif\0\0"


def upright(square: Image.Image, exif: bytes) -> Image.Image:
    """Turn a square as the EXIF, or the TIFF file, of the picture says that it was made of.

    Only the one tag is read: Pillow's own `exif_transpose` fails where it cannot write the rest anew (its issue 4215).
    """
    while exif.startswith(_EXIF_MARK):
        exif = exif[len(_EXIF_MARK) :]
    turn = _TURNS.get(tiff_directory.orientation(exif))
    return square if turn is None else square.transpose(turn)
