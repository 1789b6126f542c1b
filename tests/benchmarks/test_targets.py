"""Which targets are met."""

from __future__ import annotations

from benchmarks.figures import Figures
from benchmarks.systems import LIMIT, LITSERVE_DOCS, ORIGINAL, OURS
from benchmarks.targets import CACHED, FRONT_PAGE, FRONT_PAGE_LIMIT, Key, verdicts
from tests.benchmarks.samples import at_rate

LIMIT_TARGET = "pictures/s at 16 callers, of the limit"


def judged(figures: dict[Key, Figures]) -> dict[str, tuple[str, str]]:
    return {what: (value, verdict) for what, _, value, verdict in verdicts(figures)}


def test_a_rate_is_compared_with_the_limit_at_16_callers() -> None:
    limit = {(LIMIT, 16): at_rate(100), (LIMIT, 1): at_rate(10), (OURS, 1): at_rate(1)}

    assert judged({**limit, (OURS, 16): at_rate(80)})[LIMIT_TARGET] == ("0.80", "met")
    assert judged({**limit, (OURS, 16): at_rate(79)})[LIMIT_TARGET] == ("0.79", "not met")


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    assert set(judged({}).values()) == {("–", "not measured")}
    assert judged({(OURS, 16): at_rate(80)})["the same, of the original"] == ("–", "not measured")


def test_rising_load_is_judged_by_its_worst_level() -> None:
    rates = {(OURS, 16): at_rate(100), (OURS, 64): at_rate(110), (OURS, 128): at_rate(94)}

    assert judged(rates)["lowest of 64 and 128 callers, of 16"] == ("0.94", "not met")


def test_latencies_must_not_be_above_their_bound() -> None:
    fast, slow = at_rate(9, latency_ms=40), at_rate(9, latency_ms=44)
    lone = "p50 at one caller, of LitServe's as its docs teach"
    page = "front page: first byte to `analyzed`, of bare decode and forward"

    assert judged({(OURS, 1): fast, (LITSERVE_DOCS, 1): slow})[lone] == ("0.91", "met")
    assert judged({(OURS, 1): slow, (LITSERVE_DOCS, 1): fast})[lone] == ("1.10", "not met")
    assert judged({(FRONT_PAGE, 1): slow, (FRONT_PAGE_LIMIT, 1): fast})[page] == ("1.10", "met")


def test_a_cached_picture_and_the_original_are_compared_by_rate() -> None:
    figures = {(OURS, 16): at_rate(50), (CACHED, 16): at_rate(249), (ORIGINAL, 16): at_rate(1)}

    assert judged(figures)["same picture again, of a new one"] == ("4.98", "not met")
    assert judged(figures)["the same, of the original"] == ("50.00", "met")
