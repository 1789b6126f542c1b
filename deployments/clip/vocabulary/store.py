"""Embeddings of phrases on disk: made once, mapped by every replica of a node, and reused phrase by phrase."""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.void]
"""One row a phrase, of `row_type`: first those of the references, then the vocabulary's."""

Worded = Sequence[tuple[str, ...]]
"""The texts of each phrase: their embeddings are averaged."""

CHUNK_PHRASES = 256
"""Embedded at a time: some seconds, after which progress is told, and a stop obeyed."""
ITSELF = 1 - 1e-5
"""The cosine from which two vectors are of one text."""
LOCK_POLL_S = 0.2
STORES_KEPT = 3
"""Of one model, those used last: a change and its undoing embed nothing anew, and the folder does not grow for ever."""
FORMAT = 1
"""To be counted up with every change of how phrases are embedded or kept."""


class Stopped(Exception):
    """The replica stops."""


class TextEmbedder(Protocol):
    """Embeds texts with a model, apart from what serves."""

    @property
    def fingerprint(self) -> str:
        """A short digest of the model's files."""
        ...

    def embed(self, texts: list[str]) -> NDArray[np.float32]:
        """Give unit vectors: float32, (texts, features). Raises OSError where the model cannot be read."""
        ...

    def interrupt(self) -> None:
        """From another thread: end a running `embed`, which then raises OSError."""
        ...

    def close(self) -> None:
        """Give back what it took; it may be asked again."""
        ...


def row_type(features: int) -> np.dtype[np.void]:
    """Give what is kept of a phrase; `mean` and `spread` are of its cosines with the references.

    The vector first and a whole number of cache lines a row: numpy multiplies the column of vectors as it lies there.
    """
    fields = [("vector", "<f4", (features,)), ("key", "V16"), ("mean", "<f4"), ("spread", "<f4"), ("rest", "V40")]
    return np.dtype(fields)


def stored_rows(
    folder: Path,
    references: Worded,
    phrases: Worded,
    embedder: TextEmbedder,
    note: Callable[[int], None],
    stopped: threading.Event,
) -> Rows:
    """Map the embeddings of these phrases, made now where they are not there; blocking, up to minutes.

    Of processes that want to make them, one does, and the others wait for it.

    Args:
        folder: holds the stores of all models; made if need be.
        references: what each phrase is compared with for its `mean` and `spread`.
        phrases: in the order of the rows.
        embedder: asked for phrases that no store of its model holds.
        note: told how many phrases are embedded, as it goes on.
        stopped: once set, the work is given up.

    Raises:
        OSError: the folder cannot be written, the disk is full, or the model cannot be read.
        Stopped: `stopped` was set.
    """
    place = folder / f"{embedder.fingerprint}-{FORMAT}"
    keys = [_key(texts) for texts in (*references, *phrases)]
    file = place / f"{hashlib.sha256(b''.join(keys)).hexdigest()[:24]}.npy"
    place.mkdir(parents=True, exist_ok=True)
    rows = _mapped(file, keys)
    if rows is None:
        with _alone(place / "lock", stopped):
            rows = _mapped(file, keys)
            if rows is None:
                _write(file, _made(place, references, phrases, keys, embedder, note, stopped), len(keys))
                _forget_old(place)
                rows = _mapped(file, keys)
    if rows is None:
        raise OSError(f"{file} does not hold what was written to it")
    os.utime(file)
    return rows


def _key(texts: tuple[str, ...]) -> bytes:
    return hashlib.sha256("\n".join(texts).encode()).digest()[:16]


def _mapped(file: Path, keys: Sequence[bytes]) -> Rows | None:
    """Map a store; None where there is none, or a broken one."""
    try:
        rows: Rows = np.load(file, mmap_mode="r", allow_pickle=False)
        return rows if rows["key"].tobytes() == b"".join(keys) else None
    except (FileNotFoundError, ValueError, IndexError, EOFError):
        return None


@contextmanager
def _alone(file: Path, stopped: threading.Event) -> Iterator[None]:
    """Keep other processes of this node out; the system opens the lock of one that died."""
    with file.open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if stopped.wait(LOCK_POLL_S):
                    raise Stopped from None
        yield


def _made(
    place: Path,
    references: Worded,
    phrases: Worded,
    keys: Sequence[bytes],
    embedder: TextEmbedder,
    note: Callable[[int], None],
    stopped: threading.Event,
) -> Iterator[Rows]:
    """Yield the rows in order, some hundred at a time: from the model's other stores, or embedded."""
    known = _known(place)
    compared = np.empty(0, np.float32)
    worded = (*references, *phrases)
    done = 0
    # The references at once: all others are compared with them.
    for stop in (len(references), *range(len(references) + CHUNK_PHRASES, len(worded), CHUNK_PHRASES), len(worded)):
        if stopped.is_set():
            raise Stopped
        chunk = keys[done:stop]
        fresh = _embedded([worded[done + i] for i, key in enumerate(chunk) if key not in known], embedder)
        vectors = np.stack([known[key] if key in known else next(fresh) for key in chunk])
        compared = compared if done else vectors
        cosines = vectors @ compared.T
        # Not with itself, which would widen the spread of the references alone.
        cosines[cosines > ITSELF] = np.nan
        rows = np.zeros(len(chunk), row_type(vectors.shape[1]))
        rows["vector"], rows["key"] = vectors, np.frombuffer(b"".join(chunk), "V16")
        rows["mean"], rows["spread"] = np.nanmean(cosines, axis=1), np.nanstd(cosines, axis=1)
        yield rows
        done = stop
        note(done - len(references))


def _known(place: Path) -> dict[bytes, NDArray[np.float32]]:
    """Give the vector of each phrase in the model's stores, mapped."""
    vectors: dict[bytes, NDArray[np.float32]] = {}
    for file in place.glob("*.npy"):
        try:
            rows = np.load(file, mmap_mode="r", allow_pickle=False)
            vectors |= dict(zip((key.tobytes() for key in rows["key"]), rows["vector"], strict=True))
        except (FileNotFoundError, ValueError, IndexError, EOFError):
            continue
    return vectors


def _embedded(worded: Worded, embedder: TextEmbedder) -> Iterator[NDArray[np.float32]]:
    """Yield each phrase's vector: the direction of the mean of its texts'."""
    texts = [text for of_phrase in worded for text in of_phrase]
    vectors = embedder.embed(texts) if texts else np.empty((0, 0), np.float32)
    start = 0
    for of_phrase in worded:
        mean = vectors[start : (start := start + len(of_phrase))].mean(axis=0)
        yield mean / np.linalg.norm(mean)


def _write(file: Path, chunks: Iterator[Rows], count: int) -> None:
    """Write a store as a whole or not at all; not into a mapped file, where a full disk would end the process."""
    partial = NamedTemporaryFile(dir=file.parent, suffix=".partial", delete=False)  # noqa: SIM115
    try:
        with partial:
            for number, rows in enumerate(chunks):
                if not number:
                    header = {
                        "descr": np.lib.format.dtype_to_descr(rows.dtype),
                        "fortran_order": False,
                        "shape": (count,),
                    }
                    np.lib.format.write_array_header_2_0(partial, header)
                partial.write(rows.tobytes())
            partial.flush()
            os.fsync(partial.fileno())
        Path(partial.name).replace(file)
    except BaseException:
        Path(partial.name).unlink()
        raise


def _forget_old(place: Path) -> None:
    """Remove all but the stores that were used last; who has mapped one keeps it."""
    for file in sorted(place.glob("*.npy"), key=lambda file: file.stat().st_mtime_ns)[:-STORES_KEPT]:
        file.unlink()
    for file in place.glob("*.partial"):
        file.unlink()
