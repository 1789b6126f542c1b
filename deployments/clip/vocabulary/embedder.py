"""Embeds a vocabulary's texts with a checkpoint, in a process that stands back behind the one that serves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deployments.clip.checkpoint_process import CheckpointProcess

BEHIND = 10
"""Niceness: where cores are short, it gets about a tenth of what a picture that is being read gets."""

Stamps = Mapping[Path, tuple[int, int]]
"""Each file's size in bytes and the time in ns that it was last written."""


class CheckpointEmbedder:
    """Implements `TextEmbedder`. Its process starts with the first text.

    Args:
        folder: of the checkpoint.
        files: as they were when the vision tower was read from them.
        stamps: looks at them again.
        cores: how many it may use.
    """

    def __init__(self, folder: Path, files: Stamps, stamps: Callable[[Path], Stamps], cores: int) -> None:
        self._folder, self._files, self._stamps = folder, files, stamps
        self._process = CheckpointProcess(folder, cores, niceness=BEHIND)

    @property
    def fingerprint(self) -> str:
        """A short digest of the files' names, sizes and times: reading 600 MB would take longer than a start may."""
        files = sorted((path.name, stamp) for path, stamp in self._files.items())
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]

    def embed(self, texts: list[str]) -> NDArray[np.float32]:
        """Give unit vectors: float32, (texts, features).

        Raises:
            OSError: a file is missing, broken, or not what the vision tower was read from; or `interrupt` was called.
        """
        vectors: NDArray[np.float32] = self._process.embed_texts(texts).T
        if not self._files.items() <= self._stamps(self._folder).items():
            raise OSError(f"CLIP's files in {self._folder} changed or vanished since they were loaded")
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def interrupt(self) -> None:
        """From another thread: end a running `embed`."""
        self._process.interrupt()

    def close(self) -> None:
        """End the process, which takes some hundred MB."""
        self._process.close()
