"""Measures the limit, ours and the peers side by side: `make bench`, or `make bench QUICK=1` in under five minutes.

Then ours and LitServe without a model, what the service takes at rest, and streams; a quick run leaves these out.
Prints all tables, and writes them to `benchmarks/results.md`, and what follows for a cluster to `docs/scaling.md`. A
target that is missed does not fail the command. Ours not starting, or answering an error, does.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks import machine, report
from benchmarks.figures import Figures
from benchmarks.footprint import footprint_section
from benchmarks.plan import Costs
from benchmarks.rounds import FOLDER, MEASURING_LOG, QUICK, Bench, Effort
from benchmarks.service import ROOT, Unavailable, ending_all
from benchmarks.serving_cost import serving_section, without_a_model
from benchmarks.streaming import CALLERS, SERVED, Passages, measure_streaming, streaming_section
from benchmarks.systems import LIMIT, OURS, all_systems
from benchmarks.targets import COMPARED_CALLERS, Key
from benchmarks.workload import prepare

RESULTS = Path(__file__).with_name("results.md")


def main() -> None:
    """Measure, print, write; exit with 1 if ours did not start or answered an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of short windows, of the first part alone")
    parser.add_argument("--only", nargs="+", metavar="SYSTEM", help="the first part, of these; writes no results file")
    arguments = parser.parse_args()
    effort, started_s = QUICK if arguments.quick else Effort(), time.monotonic()
    systems = [
        system for system in all_systems(quick=arguments.quick) if not arguments.only or system.name in arguments.only
    ]
    MEASURING_LOG.unlink(missing_ok=True)
    bench = Bench(prepare(FOLDER), effort, systems, with_extras=True)
    sections: list[str] = []
    failed = False
    with ending_all():
        bench.run()
        if not arguments.quick and not arguments.only:
            sections, failed = _further_parts(bench)
    figures = bench.figures()
    text = report.results(machine.describe(), effort.method(), systems, figures, bench.unavailable, sections)
    print(f"\n{text}\nTook {(time.monotonic() - started_s) / 60:.1f} minutes.")
    if not arguments.only:
        report.write(RESULTS, text)
        print(f"Written to {RESULTS.relative_to(ROOT)}.")
    sys.exit(failed or bench.ours_failed)


def _further_parts(bench: Bench) -> tuple[list[str], bool]:
    """Give the sections of what is measured besides, and whether ours failed in it; writes the plan's costs."""
    bare = without_a_model(bench.effort)
    sections = [serving_section(bare), footprint_section()]
    try:
        streams = measure_streaming()
    except (Unavailable, ValueError, TimeoutError) as error:
        return [*sections, f"## Streaming\n\nNot measured: {error}"], True
    if not bare.ours_failed and not bench.ours_failed:
        _costs(bench.figures(), bare.figures(), streams).write()
    return [*sections, streaming_section(streams)], bare.ours_failed


def _costs(with_model: Mapping[Key, Figures], without: Mapping[Key, Figures], streams: Passages) -> Costs:
    decode_ms = without[LIMIT, COMPARED_CALLERS].total_cpu_ms
    return Costs(
        machine=machine.in_a_line(),
        decode_ms=decode_ms,
        forward_ms=with_model[LIMIT, COMPARED_CALLERS].total_cpu_ms - decode_ms,
        picture_ms=without[OURS, COMPARED_CALLERS].cpu_ms,
        token_ms=streams[max(CALLERS), SERVED].cpu_ms,
    )


if __name__ == "__main__":
    main()
