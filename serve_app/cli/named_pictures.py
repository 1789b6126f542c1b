"""Which pictures a command line names: files as they are, folders with all pictures below, globs that a shell left."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

STDIN = Path("-")
"""The picture that is piped in."""

PICTURE_SUFFIXES = frozenset(
    (".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
)
"""Files of a folder with other endings are left aside; a file that is named is sent, whatever its ending."""


def named_pictures(named: Sequence[Path]) -> list[Path]:
    """List the pictures, those of a folder and of a glob sorted; without hidden ones, and not through linked folders.

    What names none is in the list itself: opening it says what is wrong with it.
    """
    return [picture for name in named for picture in _meant(name)]


def _meant(name: Path) -> Iterable[Path]:
    if name == STDIN or os.path.lexists(name) or not glob.has_magic(str(name)):
        return _below(name)
    matches = map(Path, sorted(glob.glob(str(name), recursive=True)))
    return dict.fromkeys(picture for match in matches for picture in _below(match)) or [name]


def _below(name: Path) -> Sequence[Path]:
    return (sorted(_walked(name)) or [name]) if name != STDIN and os.path.isdir(name) else [name]


def _walked(folder: Path) -> Iterator[Path]:
    unreadable: list[OSError] = []
    for place, folders, files in os.walk(folder, onerror=unreadable.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES:
                yield Path(place, name)
    yield from (Path(error.filename) for error in unreadable)
