"""The host's memory that a loaded model needs no more, given back: on Linux; elsewhere the system does as it likes."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable
from pathlib import Path

import torch

MADV_DONTNEED = 4
"""Of Linux' sys/mman.h. A mapped file's pages leave the process; where they are read again, they come from the file."""


def unload_mapped(weights: Iterable[torch.Tensor]) -> None:
    """Let go of the pages of the files that weights are mapped from: for weights that are hardly read any more.

    Weights in memory of their own stay where they are.

    Args:
        weights: not written to since they were mapped.
    """
    if sys.platform != "linux":
        return
    addresses = [tensor.data_ptr() for tensor in weights]
    madvise = ctypes.CDLL(None).madvise
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, _, _, inode = line.split()[:5]
        start, end = (int(address, 16) for address in span.split("-"))
        if inode != "0" and any(start <= address < end for address in addresses):
            madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_DONTNEED)


def trim_heap() -> None:
    """Give freed memory back that the C library keeps for later (glibc's does, up to a hundred MB after loading)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
