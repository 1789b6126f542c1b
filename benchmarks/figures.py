"""The arithmetic: from measured windows to the figures of a table."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.outcome import OK, REFUSED, Outcome


@dataclass(frozen=True)
class Window:
    """One measured window.

    Args:
        outcome: what came back.
        cpu_s: CPU time of the system's processes in it, by role.
        others_share: of all cores' time, what neither the system nor its callers took.
    """

    outcome: Outcome
    cpu_s: dict[str, float]
    others_share: float


@dataclass(frozen=True)
class Figures:
    """A system at one level of load, over all rounds.

    Args:
        rates: pictures answered per s, one per round.
        cpu_ms: CPU-ms per answered picture by role, of all rounds together.
        client_cpu_ms: the same of the callers.
        latencies_ms: of all answered pictures, in ascending order.
        refusals_ms: of all that were refused.
        failures: requests with neither answer nor refusal.
        others_share: the largest of the rounds.
    """

    rates: tuple[float, ...]
    cpu_ms: dict[str, float]
    client_cpu_ms: float
    latencies_ms: tuple[float, ...]
    refusals_ms: tuple[float, ...]
    failures: int
    first_failure: str
    others_share: float

    @classmethod
    def of(cls, windows: Sequence[Window]) -> Figures:
        """Put the rounds of one system at one level together."""
        outcomes = [window.outcome for window in windows]
        cpu_s: defaultdict[str, float] = defaultdict(float)
        for role, spent_s in (item for window in windows for item in window.cpu_s.items()):
            cpu_s[role] += spent_s
        pictures = sum(outcome.count(OK) for outcome in outcomes) or math.inf
        return cls(
            rates=tuple(outcome.count(OK) / outcome.window_s for outcome in outcomes),
            cpu_ms={role: 1000 * spent_s / pictures for role, spent_s in cpu_s.items()},
            client_cpu_ms=1000 * sum(outcome.client_cpu_s for outcome in outcomes) / pictures,
            latencies_ms=_gathered(outcomes, OK),
            refusals_ms=_gathered(outcomes, REFUSED),
            failures=sum(outcome.failures for outcome in outcomes),
            first_failure=next((outcome.first_failure for outcome in outcomes if outcome.first_failure), ""),
            others_share=max(window.others_share for window in windows),
        )

    @property
    def rate(self) -> float:
        """The median of the rounds' rates."""
        return median(self.rates)

    @property
    def total_cpu_ms(self) -> float:
        """CPU-ms per answered picture of all processes together, the callers' not among them."""
        return sum(self.cpu_ms.values())


def percentile(ascending: Sequence[float], share: float) -> float:
    """Give the smallest value that at least this share of the values does not exceed (nearest rank).

    Raises:
        ValueError: there is no value.
    """
    if not ascending:
        raise ValueError("There is no value to take a percentile of.")
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def ratio(one: float, other: float) -> float:
    """Give how many times the other one is; nan where the other is nothing."""
    return one / other if other else math.nan


def _gathered(outcomes: Iterable[Outcome], status: int) -> tuple[float, ...]:
    return tuple(sorted(latency for outcome in outcomes for latency in outcome.latencies_ms.get(status, ())))
