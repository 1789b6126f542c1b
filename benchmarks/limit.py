"""What this machine can do at best with our decoder and our engine: `python -m benchmarks.limit PICTURE …`.

One process, no HTTP, nobody waits for anybody; without `--model` the decoder alone, in a thread for each core. Three
figures, in this order, as lines that `benchmarks.rounds` reads:

full      as many workers as the engine has streams; each decodes a batch of the engine's size and runs it through a
          stream of one thread; this is the rate that the ratios refer to
alone     one picture after the other, decoded, then computed by all cores
thinking  the same with a pause before each picture, as the front page is measured
"""

from __future__ import annotations

import argparse
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

from benchmarks.outcome import OK, Outcome, tell
from benchmarks.upload import VariedPicture
from deployments.clip.labels import load_labels
from deployments.clip.model import load_encoder
from deployments.clip.settings import DEFAULT_LABELS_FILE, ClipSettings
from serve_app.pictures.images import read_picture
from serve_app.settings import ImageSettings

CORES = len(os.sched_getaffinity(0))
EDGE_PX = 224


def measure_full(
    work: Callable[[int], None], *, workers: int, batch_size: int, warm_up_s: float, window_s: float
) -> None:
    """Have all workers do whole batches until the window's length has passed; a picture's latency is its batch's.

    Each worker's rate is taken over its own time, so that the batches under way at the end distort nothing.
    """
    outcome, ready, rates = Outcome(), threading.Barrier(workers + 1), []

    def run_for(least_s: float, counted: Outcome) -> None:
        pictures, started_s, took_s = 0, time.perf_counter(), 0.0
        while took_s < least_s:
            batch_started_s = time.perf_counter()
            work(batch_size)
            took_s = time.perf_counter() - started_s
            pictures += batch_size
            for _ in range(batch_size):
                counted.add(OK, (time.perf_counter() - batch_started_s) * 1000)
        rates.append(pictures / took_s)

    def run() -> None:
        run_for(warm_up_s, Outcome())
        ready.wait()
        ready.wait()
        run_for(window_s, outcome)

    threads = [threading.Thread(target=run) for _ in range(workers)]
    for thread in threads:
        thread.start()
    ready.wait()
    rates.clear()
    tell({"event": "opened"})
    ready.wait()
    for thread in threads:
        thread.join()
    tell({"event": "closed"})
    outcome.window_s = outcome.count(OK) / sum(rates)
    tell(outcome.as_json())


def measure_alone(work: Callable[[int], None], *, pictures: int, think_s: float) -> None:
    """Do single pictures one after the other; the pauses are not part of the window's length."""
    outcome = Outcome()
    tell({"event": "opened"})
    for _ in range(pictures):
        time.sleep(think_s)
        started_s = time.perf_counter()
        work(1)
        took_s = time.perf_counter() - started_s
        outcome.add(OK, took_s * 1000)
        outcome.window_s += took_s
    tell({"event": "closed"})
    tell(outcome.as_json())


Work = tuple[int, int, Callable[[Sequence[bytes]], object]]
"""How many workers, how many pictures each takes at a time, and what it does with them."""


def _decoder() -> Work:
    decoding = ImageSettings()
    return CORES, 1, lambda uploads: [read_picture(upload, decoding, EDGE_PX) for upload in uploads]


def _decoder_and_model(model: Path) -> Work:
    settings, decoding = ClipSettings(model=str(model), device="cpu"), ImageSettings()
    encoder = load_encoder(model, settings=settings, gpu_assigned=False, cores=CORES)
    prepared = encoder.prepare(load_labels(DEFAULT_LABELS_FILE))

    def read(uploads: Sequence[bytes]) -> None:
        pictures = [read_picture(upload, decoding, encoder.input_size_px).pixels for upload in uploads]
        encoder.logits(encoder.features(pictures), prepared)

    return encoder.batching.streams, encoder.batching.batch_size, read


def main() -> None:
    """Measure all three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--warm-up-s", type=float, required=True)
    parser.add_argument("--window-s", type=float, required=True)
    parser.add_argument("--pictures", type=int, required=True, help="measured one at a time")
    parser.add_argument("--think-s", type=float, required=True, help="pause before each of them")
    arguments = parser.parse_args()
    workers, batch_size, read = _decoder_and_model(arguments.model) if arguments.model else _decoder()
    picture, numbers = VariedPicture(arguments.picture.read_bytes(), secrets.token_hex(8)), count()

    def work(pictures: int) -> None:
        read([picture.jpeg(next(numbers)) for _ in range(pictures)])

    measure_full(
        work, workers=workers, batch_size=batch_size, warm_up_s=arguments.warm_up_s, window_s=arguments.window_s
    )
    for _ in range(arguments.pictures):
        work(1)
    measure_alone(work, pictures=arguments.pictures, think_s=0)
    measure_alone(work, pictures=arguments.pictures, think_s=arguments.think_s)


if __name__ == "__main__":
    main()
