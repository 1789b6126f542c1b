"""From what was measured to what each step costs.

Only CPU times are fitted, at two of the levels of load; rates and latencies are not, so that the simulation can be held
against them. At one caller every picture makes a call of its own, among many callers several share one: from the
difference follows what a call costs and what a picture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.capacity.costs import Costs
from benchmarks.capacity.layouts import one_machine
from serve_app.settings import LimitSettings

FEW, MANY = "1", "16"
"""Levels of load, as the file names them."""
FIT_ROUNDS = 4
"""What a call costs and how many pictures share one depend on each other; after four rounds neither moves any more."""
WARM_UP_S, WINDOW_S = 1.5, 8.0
STREAMS = "64"
"""Streams under way at a time where the cost of a token is taken: a busy service's."""


@dataclass(frozen=True)
class _Seen:
    """What the simulation says of one level."""

    pictures_per_call: float
    forward_ms: float


def read(path: Path) -> dict[str, Any]:
    """Read what `benchmarks.capacity.measure` wrote."""
    measured: dict[str, Any] = json.loads(path.read_text())
    return measured


def fitted(measured: Mapping[str, Any]) -> Costs:
    """Give the costs with which the simulation takes as much CPU time as was measured."""
    levels, tokens = measured["analyses"], measured["token_cpu_ms"][STREAMS]
    few, many = levels[FEW], levels[MANY]
    costs = Costs(
        client_ms=mean(level["client_cpu_ms"] for level in levels.values()),
        proxy_ms=mean(level["cpu_ms"]["proxy"] for level in (few, many)),
        decode_ms=measured["decode_ms"],
        ingress_ms=0,
        ingress_call_ms=few["cpu_ms"]["ingress"] - measured["decode_ms"],
        clip_ms=0,
        clip_call_ms=1,
        background_cores=mean(level["cpu_ms"]["Ray"] * level["rate"] / 1000 for level in levels.values()),
        alone_ms={int(size): ms for size, ms in measured["alone_ms"].items()},
        beside_ms={int(size): ms for size, ms in measured["beside_ms"].items()},
        token_ms=tokens,
    )
    for _ in range(FIT_ROUNDS):
        seen = [_seen(costs, measured["cores"], int(level)) for level in (FEW, MANY)]
        per_call = [one.pictures_per_call for one in seen]
        ingress = [level["cpu_ms"]["ingress"] - costs.decode_ms for level in (few, many)]
        clip = [level["cpu_ms"]["CLIP replica"] - one.forward_ms for level, one in zip((few, many), seen, strict=True)]
        (ingress_ms, ingress_call_ms), (clip_ms, clip_call_ms) = split(ingress, per_call), split(clip, per_call)
        costs = replace(
            costs,
            ingress_ms=ingress_ms,
            ingress_call_ms=ingress_call_ms,
            clip_ms=clip_ms,
            clip_call_ms=clip_call_ms,
        )
    return costs


def split(ms_per_picture: list[float], pictures_per_call: list[float]) -> tuple[float, float]:
    """Give what a picture and what a call costs, from two levels of load; neither is below nothing."""
    (few_ms, many_ms), (few, many) = ms_per_picture, pictures_per_call
    call_ms = max(0.0, (few_ms - many_ms) / (1 / few - 1 / many))
    picture_ms = many_ms - call_ms / many
    return (picture_ms, call_ms) if picture_ms > 0 else (0.0, max(0.0, many_ms * many))


def _seen(costs: Costs, cores: int, callers: int) -> _Seen:
    site = one_machine(costs, cores)
    site.crowd(callers, retry_after_s=LimitSettings().retry_after_s, warm_up_s=0, window_s=WINDOW_S)
    (ingress,), (clip,) = site.ingresses, site.clips
    pictures = sum(clip.batches.sizes)
    return _Seen(pictures / len(ingress.calls.sizes), clip.engine.cpu_ms / pictures)
