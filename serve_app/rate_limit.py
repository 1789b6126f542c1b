"""How often one caller may call: the generic cell rate algorithm (ATM Forum TM 4.0), one time per caller.

Packages for this count by the wall clock, which may jump; this one takes a monotonic clock, and 20 lines.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from cachetools import TTLCache

SECONDS_PER_MINUTE = 60

MAX_CALLERS = 10_000
"""Callers remembered at a time, some 200 bytes each; beyond, the one that came first starts anew."""


class RateLimit:
    """So many calls a minute of each caller, of which `burst` may come at once.

    Args:
        per_minute: calls, on average.
        burst: calls that may come together after a pause.
        clock: seconds, monotonic.
    """

    def __init__(self, per_minute: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._interval_s = SECONDS_PER_MINUTE / per_minute
        self._tolerance_s = (burst - 1) * self._interval_s
        # Who has not called for as long as a whole burst takes is as good as unknown.
        self._due_s: TTLCache[str, float] = TTLCache(MAX_CALLERS, ttl=burst * self._interval_s, timer=clock)

    def wait_s(self, caller: str) -> float:
        """Count a call and give 0, or give the seconds after which the caller may try again."""
        now_s = self._clock()
        due_s = max(self._due_s.get(caller, now_s), now_s)
        early_s = due_s - self._tolerance_s - now_s
        if early_s > 0:
            return float(early_s)
        self._due_s[caller] = due_s + self._interval_s
        return 0.0
