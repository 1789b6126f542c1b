"""What tags cost: `python -m benchmarks.vocabulary FOLDER [--embed N] [--rounds N]`.

FOLDER holds a model of the CLIP family; a full-size one with random weights comes from
`python -m tests.support.tiny_clip FOLDER --full-size`. Pictures are read with 10 tags and without by turns, in one
process, one after another: the difference is the vocabulary's. Its embeddings are drawn, since what they are costs
nothing. `--embed` times the text tower too, in its own process as the service has it; the tokenizer of a random model
spells texts out, so that they are three times as long as with CLIP's own.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from benchmarks.processes import pss_mib
from benchmarks.report import table
from deployments.clip.host_memory import trim_heap
from deployments.clip.model import load_encoder
from deployments.clip.settings import DEFAULT_VOCABULARY, ClipSettings
from deployments.clip.vocabulary.naming import references
from deployments.clip.vocabulary.phrases import Vocabulary, load_vocabulary
from deployments.clip.vocabulary.store import TextEmbedder, stored_rows
from deployments.clip.vocabulary.tagger import VocabularyTagger
from deployments.types import Wanted

SIZES = (10_000, 100_000)
FEATURES = 512
EDGE_PX = 224
PAUSE_S = 0.005
"""After each picture: OpenVINO's threads wait busily for a while for the next, which is no cost of the tags."""
TAGS = Wanted(10)


class Drawn:
    """Embeds any text as a unit vector that is drawn."""

    fingerprint = "drawn"

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)

    def embed(self, texts: list[str]) -> NDArray[np.float32]:
        """Give float32, (texts, features)."""
        vectors = self._random.standard_normal((len(texts), FEATURES), np.float32) + 1
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def interrupt(self) -> None:
        """Do nothing: it is quick."""

    def close(self) -> None:
        """Do nothing: it holds nothing."""


def tagger(folder: Path, size: int, embedder: TextEmbedder) -> tuple[VocabularyTagger, float]:
    """Give who names tags from so many phrases, and how long its second start takes, in s."""
    phrases = [phrase for group in load_vocabulary([DEFAULT_VOCABULARY]).groups.values() for phrase in group.phrases]
    many = Vocabulary.of({"all": [*phrases, *(f"{phrases[n % 97]} {n}" for n in range(size - len(phrases)))][:size]})
    started_s = 0.0
    for _ in range(2):
        started_s = time.perf_counter()
        worded = many.worded(["{phrase}"])
        rows = stored_rows(
            folder, references().worded(["{phrase}"]), worded, embedder, lambda done: None, threading.Event()
        )
        made = VocabularyTagger(many, rows, threshold=0.25, alike=0.8)
    took_s = time.perf_counter() - started_s
    trim_heap()
    return made, took_s


def cost(rounds: int, plain: Callable[[], None], tagged: Callable[[], None]) -> tuple[float, float]:
    """Give what `tagged` takes more than `plain`, run by turns: medians of ms and of CPU-ms."""
    taken: dict[Callable[[], None], list[tuple[float, float]]] = {plain: [], tagged: []}
    for _ in range(rounds):
        for run, times in taken.items():
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            run()
            wall_s = time.perf_counter() - wall_s
            time.sleep(PAUSE_S)
            times.append((wall_s, time.process_time() - cpu_s))
    wall, cpu = (
        [statistics.median(one[kind] for one in taken[run]) * 1000 for run in (plain, tagged)] for kind in (0, 1)
    )
    return wall[1] - wall[0], cpu[1] - cpu[0]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--embed", type=int, default=0, help="phrases to embed with the text tower")
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    encoder = load_encoder(arguments.folder, settings=ClipSettings(device="cpu"), gpu_assigned=False, cores=cores)
    pictures = [np.random.default_rng(0).integers(0, 256, (EDGE_PX, EDGE_PX, 3), np.uint8)]
    cost(arguments.rounds, lambda: void(encoder.features(pictures)), lambda: None)
    rows = []
    for size in SIZES:
        with TemporaryDirectory(prefix="ia-", dir="/var/tmp") as place:
            before_mib = pss_mib(os.getpid())
            names, start_s = tagger(Path(place), size, Drawn())

            def tagged(names: VocabularyTagger = names) -> None:
                names.tags(encoder.features(pictures), [TAGS])

            more_ms, more_cpu_ms = cost(arguments.rounds, lambda: void(encoder.features(pictures)), tagged)
            rows.append([f"{size}", f"{more_ms:.2f}", f"{more_cpu_ms:.2f}", f"{start_s:.2f}"])
            rows[-1].append(f"{pss_mib(os.getpid()) - before_mib:.0f}")
            del names, tagged
    print(table(["phrases", "ms", "CPU-ms", "second start, s", "memory, MiB"], rows))
    if arguments.embed:
        with TemporaryDirectory(prefix="ia-", dir="/var/tmp") as place:
            started_s = time.perf_counter()
            tagger(Path(place), arguments.embed, encoder.text_embedder())
            cpu_s = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
            took_s = time.perf_counter() - started_s
            print(f"{arguments.embed} phrases embedded within {took_s:.0f} s, by {cpu_s:.0f} CPU-s of all children")


def void(_: object) -> None:
    """Take what nobody wants."""


if __name__ == "__main__":
    main()
