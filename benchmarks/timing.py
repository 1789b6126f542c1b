"""How long a piece of work takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def median_ms(work: Callable[[], object], repeats: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Give the median time of so many runs by this clock, after one that does not count."""
    taken_ms = []
    for _ in range(repeats + 1):
        started_s = clock()
        work()
        taken_ms.append((clock() - started_s) * 1000)
    return statistics.median(taken_ms[1:])
