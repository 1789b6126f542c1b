"""Measures the limit, ours and the peers side by side: `make bench`, or `make bench QUICK=1` in under five minutes.

Then ours and LitServe without a model, what the service takes at rest, and streams; a quick run leaves these out.
Prints all tables, and writes them to `benchmarks/results.md`, and what follows from them to `docs/scaling.md`; every
window goes to `.bench/windows.json`. A target that is missed does not fail the command. Ours not starting, or
answering an error, does.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks import machine, report
from benchmarks.footprint import footprint_section
from benchmarks.plan import Costs
from benchmarks.rounds import FOLDER, MEASURING_LOG, QUICK, Bench, Effort
from benchmarks.service import ROOT, ending_all
from benchmarks.serving_cost import serving_section, without_a_model
from benchmarks.streaming import CALLERS, SERVED, Passages, measure_streaming, streaming_section
from benchmarks.systems import LIMIT, OURS, all_systems
from benchmarks.targets import COMPARED_CALLERS
from benchmarks.workload import prepare

RESULTS = Path(__file__).with_name("results.md")


def main() -> None:
    """Measure, print, write; exit with 1 if ours did not start or answered an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of short windows, of the first part alone")
    parser.add_argument("--only", nargs="+", metavar="SYSTEM", help="measure these alone, and write no results file")
    arguments = parser.parse_args()
    effort, started_s, extra = QUICK if arguments.quick else Effort(), time.monotonic(), []
    MEASURING_LOG.unlink(missing_ok=True)
    systems = [
        system for system in all_systems(quick=arguments.quick) if not arguments.only or system.name in arguments.only
    ]
    benches = [Bench(prepare(FOLDER), effort, systems, with_extras=True)]
    with ending_all():
        benches[0].run()
        if not arguments.quick and not arguments.only:
            benches.append(without_a_model(effort))
            streams = measure_streaming()
            extra = [serving_section(benches[1]), footprint_section(), streaming_section(streams)]
            _costs(benches[0], benches[1], streams).write()
    text = report.results(
        machine.describe(), effort.method(), systems, benches[0].figures(), benches[0].unavailable, extra
    )
    windows = [
        [*key, bench.workload.tiny, [asdict(window) for window in some]]
        for bench in benches
        for key, some in bench.windows.items()
    ]
    (FOLDER / "windows.json").write_text(json.dumps(windows))
    print(f"\n{text}\nTook {(time.monotonic() - started_s) / 60:.1f} minutes.")
    if not arguments.only:
        report.write(RESULTS, text)
        print(f"Written to {RESULTS.relative_to(ROOT)}.")
    sys.exit(any(bench.ours_failed for bench in benches))


def _costs(with_model: Bench, without: Bench, streams: Passages) -> Costs:
    """Give what the plan of a load rests on."""
    decode_ms = without.figures()[LIMIT, COMPARED_CALLERS].total_cpu_ms
    return Costs(
        machine=machine.in_a_line(),
        decode_ms=decode_ms,
        forward_ms=with_model.figures()[LIMIT, COMPARED_CALLERS].total_cpu_ms - decode_ms,
        picture_ms=without.figures()[OURS, COMPARED_CALLERS].cpu_ms,
        token_ms=streams[max(CALLERS), SERVED].cpu_ms,
    )


if __name__ == "__main__":
    main()
