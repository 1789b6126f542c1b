"""Embeds texts without a model: each has a direction of its own, and all lean the same way, as CLIP's do."""

from __future__ import annotations

import hashlib
import threading

import numpy as np
from numpy.typing import NDArray

FEATURES = 256
LEANING = 1.5
"""How far all texts lean one way: cosines between them are about 0.7, as CLIP's are."""


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths: NDArray[np.float32] = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / lengths


def vector_of(text: str) -> NDArray[np.float32]:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    direction = np.random.default_rng(seed).standard_normal(FEATURES).astype(np.float32) / np.float32(FEATURES**0.5)
    direction[0] += LEANING
    return unit(direction)


class FakeEmbedder:
    """Implements `TextEmbedder`; `gate` holds it back, `error` is raised, `embedded` are the texts it was asked for."""

    fingerprint = "fake"

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.embedded: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.interrupted = False

    def embed(self, texts: list[str]) -> NDArray[np.float32]:
        self.gate.wait()
        if self.interrupted:
            raise OSError("interrupted")
        if self.error is not None:
            raise self.error
        self.embedded += texts
        return np.stack([vector_of(text) for text in texts])

    def interrupt(self) -> None:
        self.interrupted = True
        self.gate.set()

    def close(self) -> None: ...
