"""The host's memory that a loaded model needs no more, given back: on Linux; elsewhere the system does as it likes."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

MADV_DONTNEED = 4
"""Of Linux' sys/mman.h. A mapped file's pages leave the process; where they are read again, they come from the file."""


def unload_mapped(file: Path) -> None:
    """Let go of the pages of a file that is mapped and hardly read any more; nothing may have written to them."""
    if sys.platform != "linux":
        return
    madvise = ctypes.CDLL(None).madvise
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, _, _, _, *path = line.split(maxsplit=5)
        if path == [str(file)]:
            start, end = (int(address, 16) for address in span.split("-"))
            madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_DONTNEED)


def trim_heap() -> None:
    """Give freed memory back that the C library keeps for later (glibc's does, up to a hundred MB after loading)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
