"""The process that reads a checkpoint: there while it is asked, gone when it is not."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from deployments.clip.checkpoint_process import CheckpointProcess


def children() -> set[int]:
    """The processes that this one has started and that have not ended."""
    found = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {int(pid) for file in found for pid in file.read_text().split()}


def test_it_is_kept_between_questions_ends_when_none_comes_and_starts_again(tiny_clip: Path) -> None:
    before = children()
    process = CheckpointProcess(tiny_clip, idle_s=2)
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(process.embed_texts, [["a cat"], ["a dog"], ["a cat"], ["a dog"]]))
    np.testing.assert_allclose(together[0], together[2], atol=1e-5)
    assert not np.allclose(together[0], together[1], atol=1e-2), "each question has its own answer"
    assert len(children() - before) == 1
    deadline_s = time.monotonic() + 30
    while children() - before:
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    np.testing.assert_allclose(process.embed_texts(["a cat"]), together[0], atol=1e-5)
    process.close()
    assert children() <= before


def test_it_stays_no_longer_after_a_question_that_failed(tmp_path: Path) -> None:
    before = children()
    process = CheckpointProcess(tmp_path, idle_s=0.5)
    with pytest.raises(OSError, match="model_type"):
        process.embed_texts(["a cat"])
    deadline_s = time.monotonic() + 30
    while children() - before:
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def test_one_that_is_interrupted_fails_who_waits_and_another_takes_its_place(tiny_clip: Path) -> None:
    before = children()
    process = CheckpointProcess(tiny_clip, niceness=10)
    many = [f"thing {number}" for number in range(100)]
    whole = process.embed_texts(many)
    (pid,) = children() - before
    assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0) + 10
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(process.embed_texts, many * 500)
        time.sleep(0.5)
        process.interrupt()
        with pytest.raises(OSError, match="ended"):
            waiting.result()
    np.testing.assert_allclose(process.embed_texts(many[:3]), whole[:, :3], atol=1e-4)
    process.close()
