"""What the health route answers, asked and told to a person."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

import httpx
from pydantic import ValidationError

from serve_app.cli.config import ServiceConfig
from serve_app.schemas import ComponentHealth, HealthAnswer

HEALTH_PATH = "/api/images/health"
SHOWN_FACTS = ("model", "device", "precision", "gpu", "host")
"""The facts that a person starting the service wants; the others are for the health route's readers."""

STAND_INS = ("objects", "pixels", "template")

HEALTH_MARGIN_S = 1.0
"""How much longer than the service's own status limit is waited for its health."""

PartName = Literal["analyzer", "writer"]


def ask_health(config: ServiceConfig, transport: httpx.BaseTransport | None = None) -> HealthAnswer | None:
    """Ask the service at a config's address how it stands; None where nothing answers, or something else does.

    Proxies are left aside: the service is on this machine. `transport` replaces the network in tests.
    """
    limit_s = config.settings.limits.status_timeout_s + HEALTH_MARGIN_S
    try:
        with httpx.Client(timeout=limit_s, transport=transport or httpx.HTTPTransport()) as client:
            return HealthAnswer.model_validate_json(client.get(config.url + HEALTH_PATH).content)
    except (httpx.HTTPError, ValidationError):
        return None


def has_started(health: HealthAnswer | None) -> bool:
    """Tell whether every part has been heard; a part that cannot answer at all, or not yet, has no facts."""
    return health is not None and all(part.facts or part.status == "ready" for part in health.components.values())


def describe(health: HealthAnswer) -> Iterator[str]:
    """Describe each part in a line, and in two more what it lacks and what to do about it."""
    for name, part in health.components.items():
        mark = "✓" if part.status == "ready" else "✗"
        facts = [str(part.facts[key]) for key in SHOWN_FACTS if key in part.facts and part.status == "ready"]
        role = " (stand-in)" if part.active in STAND_INS else ""
        yield f"{mark} {name + ':':<10}{part.active}{role}{''.join(f' · {fact}' for fact in facts)}"
        yield from shortfall(part)


def shortfall(part: ComponentHealth) -> Iterator[str]:
    """Tell why a part is not ready, then what to do."""
    if part.reason:
        yield f"    {part.reason}"
    if part.remedy:
        yield f"    → {part.remedy}"


class _State(NamedTuple):
    status: str
    active: str
    reason: str


class HealthNews:
    """Turns a series of health answers into the lines worth a person's attention.

    A change that is only one of numbers (a download's percentage) is told at most every `number_interval_s`.
    """

    def __init__(self, number_interval_s: float = 15.0) -> None:
        self._number_interval_s = number_interval_s
        self._answering = True
        self._told: dict[PartName, tuple[_State, float]] = {}

    def lines(self, health: HealthAnswer | None, now_s: float) -> Iterator[str]:
        """Tell what has changed since the answer before; the first answer is taken as told already."""
        if (health is not None) != self._answering:
            self._answering = health is not None
            yield "The service answers again." if self._answering else "The service does not answer."
        for name, part in health.components.items() if health is not None else ():
            state = _State(part.status, part.active, part.reason)
            before, told_s = self._told.setdefault(name, (state, now_s))
            too_soon = now_s - told_s < self._number_interval_s
            if state == before or (too_soon and _sans_numbers(state) == _sans_numbers(before)):
                continue
            self._told[name] = (state, now_s)
            change = f"{before.active} → {part.active}" if part.active != before.active else part.active
            yield f"{name}: {change}"
            yield from shortfall(part)


def _sans_numbers(state: _State) -> _State:
    return state._replace(reason=re.sub(r"\d+(\.\d+)?", "", state.reason))
