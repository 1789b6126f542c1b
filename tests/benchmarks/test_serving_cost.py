"""What serving costs without a model, as the results show it, and how two checkouts compare."""

from __future__ import annotations

from benchmarks.figures import Figures
from benchmarks.service import ROOT
from benchmarks.serving_cost import ratios
from benchmarks.systems import LITSERVE_TUNED, OURS, of_checkout
from benchmarks.targets import SERVING_TARGETS, verdicts
from tests.benchmarks.samples import at_rate, window


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_ours_is_compared_with_each_other_by_the_medians_of_the_rounds() -> None:
    base = of_checkout(ROOT)
    ours = Figures.of([window(*[20] * rate) for rate in (90, 30, 60)])
    figures = {(OURS, 16): ours, (base.name, 16): at_rate(40, latency_ms=10)}

    assert cells(ratios(figures, [OURS, base.name])) == [["16", base.name, "1.500×", "2.000×", "nan×"]]


def test_the_target_is_three_quarters_of_litserve_tuned_by_hand() -> None:
    for rate, verdict in ((75, "met"), (74, "not met")):
        figures = {(OURS, 16): at_rate(rate), (LITSERVE_TUNED, 16): at_rate(100)}
        assert [row[-1] for row in verdicts(figures, SERVING_TARGETS)] == [verdict]
