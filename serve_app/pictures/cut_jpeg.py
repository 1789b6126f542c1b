"""A JPEG that lost its end, as browsers show it: read where next to nothing of the picture is missing."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np

from serve_app.pictures.orientation import View

_END = b"\xff\xd9"

_RESTARTS = tuple(bytes((0xFF, 0xD0 + i)) for i in range(8))
"""Where a JPEG is cut into intervals, each begins anew after one of these, in turn."""

_MOST_RESTARTS = 1 << 16
"""One for every row of the highest JPEG; above, some of what is missing may look as if it were there."""

_NONSENSE = random.Random(1).randbytes(1 << 16).replace(b"\xff", b"")  # noqa: S311 - no secret

_SEEN_LEVELS = 16
"""Of 255: what differs by less would not be seen to be missing."""

_MOST_MISSING = 0.1
"""Of the picture: a file cut by a few bytes lacks less; of half a picture the half is refused, as it always was."""


def read_cut_jpeg(data: bytes, decode: Callable[[bytes], View]) -> View | None:
    """Decode a JPEG whose end is missing, or give nothing if much of the picture went with it.

    How much that is, no decoder tells. So it is decoded twice, with its rest empty and with nonsense for it: where both
    agree it is all there.

    Args:
        data: the file as it is.
        decode: gives a small RGB picture of a file.
    """
    there = data.rstrip(b"\xff")
    picture, otherwise = decode(there + _END), decode(there + _nonsense(there) + _END)
    apart = np.abs(np.asarray(picture.square, np.int16) - np.asarray(otherwise.square)).max(axis=-1)
    missing = (apart > _SEEN_LEVELS).mean()
    return picture if missing <= _MOST_MISSING else None


def _nonsense(there: bytes) -> bytes:
    """Give as much as there is, in intervals as long as those are."""
    nonsense = _NONSENSE * (1 + len(there) // len(_NONSENSE))
    restarts = min(sum(there.count(restart) for restart in _RESTARTS), _MOST_RESTARTS)
    if not restarts:
        return nonsense
    step = len(nonsense) // restarts
    return b"".join(nonsense[i * step : (i + 1) * step] + _RESTARTS[(restarts + i) % 8] for i in range(restarts))
