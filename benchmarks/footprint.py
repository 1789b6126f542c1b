"""What the service takes while nobody calls, and how soon it answers: `python -m benchmarks.footprint`.

Ours as it starts by default, with a tiny CLIP and with a full-size one, and LitServe tuned by hand beside it; with
`--against CHECKOUT` the service of another checkout of this repository too, in alternating rounds. Each is started,
given one picture, left alone, and then watched: CPU time of all its processes, those that come and go included, their
number, and their proportional share of memory (PSS).
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks import machine
from benchmarks.processes import ROLES, SERVER, pss_mib, spent_by_role
from benchmarks.report import table
from benchmarks.rounds import FOLDER, started
from benchmarks.service import Unavailable, ending_all
from benchmarks.systems import LITSERVE_TUNED, OUR_SYSTEM, OURS, System, of_checkout, without_model
from benchmarks.workload import Workload, prepare

QUIET_S, WINDOW_S = 15.0, 30.0
"""How long it is left alone after its first right answer, and watched then."""
SAMPLE_S = 0.5
"""Between two readings of its processes: who lives as long is seen."""
MIB_PER_GIB = 1024
FULL_SIZE = "full-size CLIP"
TARGETS = {"tiny CLIP": (80, 14, 1.3, 14), FULL_SIZE: (80, 14, 2.2, None)}
"""Ours on two cores, at most: CPU-ms a second, processes, PSS in GiB, s to the first right answer."""


class Rest(NamedTuple):
    """What processes take at rest: CPU-ms a second, how many there are, PSS in MiB."""

    cpu_ms_per_s: float
    processes: float
    pss_mib: float


@dataclass(frozen=True)
class Footprint:
    """One system: after how many s its first right answer came, and what it took at rest, by role."""

    first_answer_s: float
    by_role: Mapping[str, Rest]

    @property
    def total(self) -> Rest:
        """All of it."""
        return Rest(*map(sum, zip(*self.by_role.values(), strict=True)))

    @classmethod
    def middle_of(cls, rounds: Sequence[Footprint]) -> Footprint:
        """Give the median of the rounds, of each number by itself."""
        roles = {role for one in rounds for role in one.by_role}
        return cls(
            median(one.first_answer_s for one in rounds),
            {
                role: Rest(*map(median, zip(*(one.by_role.get(role, Rest(0, 0, 0)) for one in rounds), strict=True)))
                for role in roles
            },
        )


def measure(system: System, workload: Workload) -> Footprint:
    """Start it, wait until it has settled, watch it.

    Raises:
        Unavailable: it gave no right answer.
    """
    with started(system, workload) as (at, first_answer_s):
        time.sleep(QUIET_S)
        began_s = time.monotonic()
        readings = [at.service.processes()]
        while time.monotonic() < began_s + WINDOW_S:
            time.sleep(SAMPLE_S)
            readings.append(at.service.processes())
        window_s, pss = time.monotonic() - began_s, defaultdict[str, list[float]](list)
        for pid, one in readings[-1].items():
            pss[one.role].append(pss_mib(pid))
    rest = {
        role: Rest(1000 * spent_s / window_s, len(pss[role]), sum(pss[role]))
        for role, spent_s in spent_by_role(readings).items()
    }
    return Footprint(first_answer_s, rest)


def measure_all(rounds: int, against: Path | None = None) -> tuple[dict[str, Footprint], dict[str, str]]:
    """Give the footprint of each, and why another has none."""
    tiny, full_size = prepare(FOLDER, tiny=True), prepare(FOLDER)
    services = [OUR_SYSTEM, *([of_checkout(against)] if against else [])]
    turns = {
        f"{system.name}, {what}": partial(measure, system, workload)
        for what, workload in zip(TARGETS, (tiny, full_size), strict=True)
        for system in services
    }
    tuned = next(system for system in without_model() if system.name == LITSERVE_TUNED)
    turns[f"{tuned.name}, tiny CLIP"] = partial(measure, tuned, tiny)
    measured: defaultdict[str, list[Footprint]] = defaultdict(list)
    unavailable: dict[str, str] = {}
    for number in range(rounds):
        for name in reversed(turns) if number % 2 else turns:
            try:
                measured[name].append(turns[name]())
            except Unavailable as error:
                unavailable[name] = str(error)
            told = unavailable.get(name) or f"{measured[name][-1].total.cpu_ms_per_s:.0f} CPU-ms/s"
            print(f"at rest, round {number + 1} of {rounds}, {name}: {told}", flush=True)
    return {name: Footprint.middle_of(measured[name]) for name in turns if measured[name]}, unavailable


def footprint_section(rounds: int = 1, against: Path | None = None) -> str:
    """Measure, and give a section of the results in Markdown."""
    measured, unavailable = measure_all(rounds, against)
    return "\n\n".join(
        (
            "## At rest",
            f"Started by its command, given a picture, left alone for {QUIET_S:g} s, then watched for {WINDOW_S:g} s"
            + (f"; medians of {rounds} rounds." if rounds > 1 else "."),
            summary(measured),
            "By process: CPU-ms a second · processes · MiB.",
            by_role(measured),
            *(f"{name} was not measured, or not in all rounds: {why}" for name, why in unavailable.items()),
            table(("target at rest, on two cores", "bound", "measured", ""), verdicts(measured)),
        )
    )


def summary(measured: Mapping[str, Footprint]) -> str:
    """Show the sums."""
    head = ("system", "CPU-ms a second", "processes", "PSS GiB", "s from the command to the first right answer")
    return table(head, [(name, *_told(one)) for name, one in measured.items()])


def by_role(measured: Mapping[str, Footprint]) -> str:
    """Show what each role takes, and each system in a column."""
    present = {role for one in measured.values() for role in one.by_role}
    rows = [
        (role, *(_cell(one.by_role.get(role)) for one in measured.values()))
        for role in [*(name for name, _ in ROLES), SERVER]
        if role in present
    ]
    return table(("process", *measured), rows)


def verdicts(measured: Mapping[str, Footprint]) -> Iterator[tuple[str, str, str, str]]:
    """Give each target of ours: what it is, its bound, the measured value, and whether it is met."""
    words = ("CPU-ms a second", "processes", "PSS GiB", "s to the first right answer")
    for what, bounds in TARGETS.items():
        if (one := measured.get(f"{OURS}, {what}")) is None:
            continue
        for word, bound, told in zip(words, bounds, _told(one), strict=True):
            if bound is not None:
                yield f"{word}, {what}", f"≤ {bound}", told, "met" if float(told) <= bound else "not met"


def _told(one: Footprint) -> tuple[str, str, str, str]:
    total = one.total
    return (
        f"{total.cpu_ms_per_s:.0f}",
        f"{total.processes:.0f}",
        f"{total.pss_mib / MIB_PER_GIB:.2f}",
        f"{one.first_answer_s:.1f}",
    )


def _cell(rest: Rest | None) -> str:
    return "–" if rest is None else f"{rest.cpu_ms_per_s:.1f} · {rest.processes:.0f} · {rest.pss_mib:.0f}"


def main() -> None:
    """Print the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    with ending_all():
        section = footprint_section(arguments.rounds, arguments.against and arguments.against.resolve())
    print(f"\n{machine.in_a_line()}\n\n{section}")


if __name__ == "__main__":
    main()
