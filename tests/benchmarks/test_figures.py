"""Medians, percentiles, ratios and CPU time per picture."""

from __future__ import annotations

import math

import pytest

from benchmarks.figures import Figures, percentile, ratio
from benchmarks.outcome import Outcome
from tests.benchmarks.samples import window


def test_the_rate_is_the_median_of_the_rounds() -> None:
    figures = Figures.of([window(1, 1, 1, 1, window_s=2), window(1, 1, 1), window(*[1] * 10)])

    assert figures.rates == (2, 3, 10)
    assert figures.rate == 3


def test_a_percentile_is_a_value_that_was_measured() -> None:
    hundred = [float(value) for value in range(1, 101)]

    assert percentile(hundred, 0.5) == 50
    assert percentile(hundred, 0.99) == 99
    assert percentile([1, 2, 3], 0.99) == 3
    assert percentile([7], 0.01) == 7


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no value"):
        percentile([], 0.5)


def test_latencies_of_all_rounds_are_taken_together() -> None:
    figures = Figures.of([window(9, 1, refusals_ms=(2,)), window(5, refusals_ms=(1,))])

    assert figures.latencies_ms == (1, 5, 9)
    assert figures.refusals_ms == (1, 2)


def test_cpu_time_is_shared_among_the_answered_pictures_alone() -> None:
    figures = Figures.of(
        [
            window(1, 1, cpu_s={"ingress": 0.01, "proxy": 0.002}, refusals_ms=(1,) * 50),
            window(1, 1, cpu_s={"ingress": 0.03}),
        ]
    )

    assert figures.cpu_ms == pytest.approx({"ingress": 10, "proxy": 0.5})
    assert figures.total_cpu_ms == pytest.approx(10.5)


def test_a_refusal_is_no_failure_and_everything_else_is() -> None:
    outcome = Outcome(window_s=1)
    for status in (200, 429, 500, 503, 0):
        outcome.add(status, 1)

    assert outcome.failures == 3


def test_a_system_that_answers_nothing_has_no_rate_and_no_cpu_time_per_picture() -> None:
    figures = Figures.of([window(cpu_s={"server": 1.0})])

    assert figures.rate == 0
    assert figures.total_cpu_ms == 0
    assert math.isnan(ratio(50, figures.rate))


def test_an_outcome_comes_through_json_as_it_was() -> None:
    outcome = Outcome(window_s=2.5, client_cpu_s=0.25, first_failure="500: broken")
    outcome.add(200, 12.5)
    outcome.add(429, 1)

    assert Outcome.from_json(outcome.as_json()) == outcome
