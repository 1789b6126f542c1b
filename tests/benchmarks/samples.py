"""Measured windows as the tests need them."""

from __future__ import annotations

from benchmarks.figures import Figures, Window
from benchmarks.outcome import OK, REFUSED, Outcome


def window(
    *latencies_ms: float,
    window_s: float = 1,
    refusals_ms: tuple[float, ...] = (),
    cpu_s: dict[str, float] | None = None,
    others_share: float = 0,
) -> Window:
    answers = {OK: list(latencies_ms), REFUSED: list(refusals_ms)}
    return Window(Outcome(window_s=window_s, latencies_ms=answers), cpu_s or {}, others_share)


def at_rate(pictures_per_s: int, latency_ms: float = 10) -> Figures:
    return Figures.of([window(*[latency_ms] * pictures_per_s)])
