"""What one measured window brought, as the processes that measure tell it to `benchmarks.bench`: JSON, a line each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

OK, REFUSED, NO_ANSWER = 200, 429, 0
"""Status codes; `NO_ANSWER` stands for a connection that failed or an answer that did not come in time."""


@dataclass
class Outcome:
    """All answers that arrived within a window, by status, in ms since their request was begun."""

    window_s: float = 0.0
    latencies_ms: dict[int, list[float]] = field(default_factory=dict)
    client_cpu_s: float = 0.0
    """CPU time of the process that called, in the window."""
    first_failure: str = ""
    """The first answer that was neither a success nor a refusal."""

    def add(self, status: int, latency_ms: float) -> None:
        """Count one answer."""
        self.latencies_ms.setdefault(status, []).append(round(latency_ms, 3))

    def count(self, status: int) -> int:
        """Tell how many answers had this status."""
        return len(self.latencies_ms.get(status, ()))

    @property
    def failures(self) -> int:
        """How many were neither a success nor a refusal."""
        return sum(len(some) for status, some in self.latencies_ms.items() if status not in (OK, REFUSED))

    def as_json(self) -> dict[str, Any]:
        """Give what `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read it back; JSON has made strings of the statuses."""
        latencies_ms = {int(status): some for status, some in content["latencies_ms"].items()}
        return cls(**{**content, "latencies_ms": latencies_ms})


def tell(line: Mapping[str, Any]) -> None:
    """Write a line to the process that started this one, at once."""
    print(json.dumps(line), flush=True)
