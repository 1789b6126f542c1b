"""Embeddings are made once, phrase by phrase, whoever asks, and are there whole or not at all."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from deployments.clip.vocabulary.store import STORES_KEPT, Rows, Stopped, stored_rows
from tests.support.fake_embedder import FakeEmbedder, unit, vector_of

REFERENCES = [(f"reference {number}",) for number in range(8)]
PHRASES = [(f"thing {number}", f"a photo of thing {number}") for number in range(600)]


def rows_of(folder: Path, embedder: FakeEmbedder, phrases: Sequence[tuple[str, ...]] = PHRASES) -> Rows:
    return stored_rows(folder, REFERENCES, phrases, embedder, lambda done: None, threading.Event())


def test_a_phrase_is_the_mean_of_its_texts_and_told_by_its_cosines_with_the_references(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, FakeEmbedder())
    vectors = unit(np.stack([np.mean([vector_of(text) for text in texts], axis=0) for texts in PHRASES]))
    np.testing.assert_allclose(rows["vector"][len(REFERENCES) :], vectors, rtol=0, atol=1e-6)
    cosines = vectors @ np.stack([vector_of(text) for (text,) in REFERENCES]).T
    np.testing.assert_allclose(rows["mean"][len(REFERENCES) :], cosines.mean(axis=1), rtol=0, atol=1e-6)
    np.testing.assert_allclose(rows["spread"][len(REFERENCES) :], cosines.std(axis=1), rtol=0, atol=1e-6)


def test_what_is_there_is_mapped_and_what_changed_is_embedded_alone(tmp_path: Path) -> None:
    first = rows_of(tmp_path, FakeEmbedder())
    again = FakeEmbedder()
    assert rows_of(tmp_path, again).tobytes() == first.tobytes()
    assert isinstance(first, np.memmap)
    assert again.embedded == []

    changed = FakeEmbedder()
    rows = rows_of(tmp_path, changed, [("new",), *reversed(PHRASES)])
    assert changed.embedded == ["new"]
    np.testing.assert_array_equal(rows["vector"][-1], first["vector"][len(REFERENCES)])


def test_another_model_shares_nothing(tmp_path: Path) -> None:
    rows_of(tmp_path, FakeEmbedder())
    other = FakeEmbedder()
    other.fingerprint = "other"
    rows_of(tmp_path, other)
    assert len(other.embedded) == len(REFERENCES) + 2 * len(PHRASES)


@pytest.mark.parametrize("damage", [lambda file: file.write_bytes(b"no store"), lambda file: file.write_bytes(b"")])
def test_a_broken_store_is_made_anew(damage: object, tmp_path: Path) -> None:
    rows = rows_of(tmp_path, FakeEmbedder()).tobytes()
    (file,) = tmp_path.glob("*/*.npy")
    assert callable(damage)
    damage(file)
    assert rows_of(tmp_path, FakeEmbedder()).tobytes() == rows


def test_nothing_half_is_left_where_the_model_fails(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no memory"):
        rows_of(tmp_path, FakeEmbedder(error=OSError("no memory")))
    assert list(tmp_path.glob("*/*.npy")) == list(tmp_path.glob("*/*.partial")) == []


def test_the_folder_does_not_grow_for_ever(tmp_path: Path) -> None:
    for last in range(STORES_KEPT + 3):
        rows_of(tmp_path, FakeEmbedder(), PHRASES[: last + 1])
    assert len(list(tmp_path.glob("*/*.npy"))) == STORES_KEPT


def test_one_that_waits_for_another_can_be_stopped(tmp_path: Path) -> None:
    holder = FakeEmbedder()
    holder.gate.clear()
    working = threading.Thread(target=rows_of, args=(tmp_path, holder))
    working.start()
    while not list(tmp_path.glob("*/*.partial")):
        pass
    stopped = threading.Event()
    threading.Timer(0.3, stopped.set).start()
    with pytest.raises(Stopped):
        stored_rows(tmp_path, REFERENCES, PHRASES, FakeEmbedder(), lambda done: None, stopped)
    holder.gate.set()
    working.join()


def _embed_in_process(folder: Path, counts: multiprocessing.Queue[int]) -> None:
    embedder = FakeEmbedder()
    rows_of(folder, embedder)
    counts.put(len(embedder.embedded))


def test_of_two_processes_one_embeds_and_both_have_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    counts: multiprocessing.Queue[int] = context.Queue()
    processes = [context.Process(target=_embed_in_process, args=(tmp_path, counts)) for _ in range(2)]
    for process in processes:
        process.start()
    embedded = sorted(counts.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert embedded == [0, len(REFERENCES) + 2 * len(PHRASES)]
