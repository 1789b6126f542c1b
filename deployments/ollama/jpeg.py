"""The picture as a model is shown it: a small JPEG of our own making, since servers die of others (findings/ollama.md).

The same picture gives the same bytes, and nothing but pixels is in them.
"""

from __future__ import annotations

import io

from PIL import Image

QUALITY = 85
"""Of libjpeg's 100: no block is to be seen, at a third of the bytes of 95."""


def encoded(picture: Image.Image) -> bytes:
    """Give a picture of mode RGB as a JPEG."""
    plain = Image.new("RGB", picture.size)
    plain.paste(picture)  # of which no metadata is known
    written = io.BytesIO()
    plain.save(written, "JPEG", quality=QUALITY)
    return written.getvalue()


def smaller(jpeg: bytes, longest_px: int) -> bytes | None:
    """Give one of our own JPEGs at no more than so many pixels on its long side; None where it has no more already."""
    with Image.open(io.BytesIO(jpeg)) as picture:
        if max(picture.size) <= longest_px:
            return None
        picture.thumbnail((longest_px, longest_px), Image.Resampling.BICUBIC)
        return encoded(picture)
