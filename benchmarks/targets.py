"""What the figures must reach, and whether they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.figures import Figures, percentile, ratio
from benchmarks.systems import LIMIT, LITSERVE_DOCS, LITSERVE_TUNED, ORIGINAL, OURS, RISING_CALLERS, SERVE_DOCS

COMPARED_CALLERS = 16
"""Where the rates of systems are compared."""
CACHED = "ours, same picture again"
FRONT_PAGE, FRONT_PAGE_LIMIT = "front page", "limit, with pauses"

Key = tuple[str, int]
"""System and callers."""


@dataclass(frozen=True)
class Target:
    """One promise.

    Args:
        what: in words.
        bound: the number to reach.
        at_least: false where it is the most that is allowed.
        measure: gives the value; raises KeyError or ValueError where something was not measured.
    """

    what: str
    bound: float
    at_least: bool
    measure: Callable[[Mapping[Key, Figures]], float]

    def verdict(self, figures: Mapping[Key, Figures]) -> tuple[str, str]:
        """Give the measured value and `met`, `not met` or `not measured`."""
        try:
            value = self.measure(figures)
        except (KeyError, ValueError):
            return "–", "not measured"
        met = value >= self.bound if self.at_least else value <= self.bound
        return f"{value:.2f}", "met" if met else "not met"


def _rate_against(name: str) -> Callable[[Mapping[Key, Figures]], float]:
    return lambda figures: ratio(figures[OURS, COMPARED_CALLERS].rate, figures[name, COMPARED_CALLERS].rate)


def _cached_against_uncached(figures: Mapping[Key, Figures]) -> float:
    return ratio(figures[CACHED, COMPARED_CALLERS].rate, figures[OURS, COMPARED_CALLERS].rate)


def _worst_rising(figures: Mapping[Key, Figures]) -> float:
    lowest = min(figures[OURS, callers].rate for callers in RISING_CALLERS)
    return ratio(lowest, figures[OURS, COMPARED_CALLERS].rate)


def _lone_latency(figures: Mapping[Key, Figures]) -> float:
    return ratio(_median_ms(figures[OURS, 1]), _median_ms(figures[LITSERVE_DOCS, 1]))


def _front_page(figures: Mapping[Key, Figures]) -> float:
    return ratio(_median_ms(figures[FRONT_PAGE, 1]), _median_ms(figures[FRONT_PAGE_LIMIT, 1]))


def _median_ms(figures: Figures) -> float:
    return percentile(figures.latencies_ms, 0.5)


TARGETS = (
    Target("pictures/s at 16 callers, of the limit", 0.80, True, _rate_against(LIMIT)),
    Target("the same, of LitServe as its docs teach", 1.25, True, _rate_against(LITSERVE_DOCS)),
    # Runs of one configuration differ by this much.
    Target("the same, of LitServe tuned by hand (level)", 0.95, True, _rate_against(LITSERVE_TUNED)),
    Target("the same, of Ray Serve as its docs teach", 2.5, True, _rate_against(SERVE_DOCS)),
    Target("the same, of the original", 35, True, _rate_against(ORIGINAL)),
    Target("same picture again, of a new one", 5, True, _cached_against_uncached),
    Target("lowest of 64 and 128 callers, of 16", 0.95, True, _worst_rising),
    Target("p50 at one caller, of LitServe's as its docs teach", 1.0, False, _lone_latency),
    Target("front page: first byte to `analyzed`, of bare decode and forward", 1.25, False, _front_page),
)


SERVING_TARGETS = (
    Target("pictures/s at 16 callers, of LitServe tuned by hand", 0.75, True, _rate_against(LITSERVE_TUNED)),
)
"""Without a model."""


def verdicts(
    figures: Mapping[Key, Figures], targets: Sequence[Target] = TARGETS
) -> Iterator[tuple[str, str, str, str]]:
    """Give each target's words, its bound, the measured value and the verdict."""
    for target in targets:
        sign = "≥" if target.at_least else "≤"
        yield target.what, f"{sign} {target.bound:.2f}", *target.verdict(figures)
