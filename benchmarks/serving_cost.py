"""What serving costs by itself: `python -m benchmarks.serving_cost [--quick]`.

A model so small that it costs nothing, as where a GPU computes it: ours in both modes, LitServe, and the decoder alone.

With `--against CHECKOUT` ours is measured in alternating rounds with the service of another checkout of this
repository, run by the same Python, and with LitServe tuned by hand; it prints the ratios of the medians. With
`--full-size` the model is of ViT-B/32's size.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import machine
from benchmarks.figures import Figures, percentile, ratio
from benchmarks.report import TARGET_HEAD, systems_table, table, troubles
from benchmarks.rounds import FOLDER, QUICK, Bench, Effort
from benchmarks.service import ending_all
from benchmarks.systems import (
    LIMIT,
    LITSERVE_TUNED,
    OUR_SYSTEM,
    OURS,
    of_checkout,
    without_model,
)
from benchmarks.targets import SERVING_TARGETS, Key, verdicts
from benchmarks.workload import prepare

AGAINST_ROUNDS = 5
AGAINST_CALLERS = (1, 16)


def without_a_model(effort: Effort) -> Bench:
    """Measure the systems whose own cost is compared."""
    bench = Bench(prepare(FOLDER, tiny=True), effort, without_model())
    bench.run()
    return bench


def serving_section(bench: Bench) -> str:
    """Give a section of the results in Markdown."""
    figures, names = bench.figures(), [LIMIT, *(system.name for system in bench.systems)]
    sections = (
        "## Without a model: what serving costs by itself",
        "A model so small that it costs nothing: what is left where a GPU computes it. "
        f"`{LIMIT}` is our decoder alone, without HTTP, in a thread for each core.",
        systems_table(names, figures),
        troubles(figures, bench.unavailable),
        table(TARGET_HEAD, verdicts(figures, SERVING_TARGETS)),
    )
    return "\n\n".join(section for section in sections if section)


def ratios(figures: Mapping[Key, Figures], names: Sequence[str]) -> str:
    """Show how many times what each other system does ours does, at each level of load."""
    rows = []
    for callers in AGAINST_CALLERS:
        for other in names:
            if other == OURS or not {(OURS, callers), (other, callers)} <= figures.keys():
                continue
            ours, its = figures[OURS, callers], figures[other, callers]
            medians = (
                (ours.rate, its.rate),
                (percentile(ours.latencies_ms, 0.5), percentile(its.latencies_ms, 0.5)),
                (ours.total_cpu_ms, its.total_cpu_ms),
            )
            rows.append((f"{callers}", other, *(f"{ratio(*pair):.3f}×" for pair in medians)))
    return table(("callers", "ours, against", "pictures/s", "p50", "CPU-ms each"), rows)


def main() -> None:
    """Print what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of short windows")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT")
    parser.add_argument("--full-size", action="store_true", help="with --against: a model of ViT-B/32's size")
    parser.add_argument("--rounds", type=int)
    arguments = parser.parse_args()
    effort = QUICK if arguments.quick else Effort(rounds=AGAINST_ROUNDS if arguments.against else Effort.rounds)
    effort = replace(effort, rounds=arguments.rounds or effort.rounds)
    with ending_all():
        if arguments.against is None:
            print(serving_section(without_a_model(effort)))
            return
        tuned = next(system for system in without_model() if system.name == LITSERVE_TUNED)
        systems = [
            replace(system, callers=AGAINST_CALLERS)
            for system in (OUR_SYSTEM, of_checkout(arguments.against.resolve()), tuned)
        ]
        bench = Bench(prepare(FOLDER, tiny=not arguments.full_size), effort, systems)
        bench.run(limit=False)
    figures, names = bench.figures(), [system.name for system in systems]
    parts = (f"\n{machine.in_a_line()} {effort.method()}", systems_table(names, figures))
    print(*parts, troubles(figures, bench.unavailable), ratios(figures, names), sep="\n\n")


if __name__ == "__main__":
    main()
