"""The figures as Markdown: the same text on the screen and in `benchmarks/results.md`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.figures import Figures, percentile, ratio
from benchmarks.systems import LIMIT, OURS, System
from benchmarks.targets import CACHED, FRONT_PAGE, FRONT_PAGE_LIMIT, Key, verdicts

KEPT_FROM = "<!-- What follows was measured elsewhere; make bench keeps it. -->"
"""Where the part of the results file begins that this command does not write."""
_TABLE = re.compile(r"(<!-- table: (?P<name>\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
NOTHING = "–"
TARGET_HEAD = ("target", "bound", "measured", "")
UNQUIET_SHARE = 0.1
"""Of all cores' time: above it a window counts as disturbed."""


def results(
    machine: Mapping[str, str],
    method: str,
    systems: Sequence[System],
    figures: Mapping[Key, Figures],
    unavailable: Mapping[str, str],
    extra: Sequence[str],
) -> str:
    """Write all tables.

    Args:
        machine: what was measured on.
        method: rounds and windows, in a sentence.
        systems: in the order of the tables.
        figures: by system and callers.
        unavailable: system → why it could not be measured.
        extra: further sections.
    """
    legend = _legend(systems)
    sections = [
        "# Measured\n\n`make bench` writes this file; nothing in it is typed in.",
        table(("", ""), machine.items()),
        method,
        "\n".join(f"- `{name}`: {what}" for name, what in legend),
        "## With a model of ViT-B/32's size, random weights",
        systems_table([name for name, _ in legend], figures),
        troubles(figures, unavailable),
        table(TARGET_HEAD, verdicts(figures)),
        *extra,
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def filled(document: str, tables: Mapping[str, str]) -> str:
    """Put each table where the document asks for it by its name."""

    def replaced(match: re.Match[str]) -> str:
        made = tables.get(match["name"])
        return match[0] if made is None else f"{match[1]}{made}\n{match[3]}"

    return _TABLE.sub(replaced, document)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Give a Markdown table whose columns are as wide as their contents, so that it can be read as it is."""
    cells = [head, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    lines.insert(1, " | ".join("-" * max(3, width) for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def write(path: Path, text: str) -> None:
    """Write the results file; what stands below `KEPT_FROM` in it stays."""
    old = path.read_text() if path.exists() else ""
    _, mark, kept = old.partition(KEPT_FROM)
    path.write_text(f"{text}\n{mark}{kept}" if mark else text)


def _legend(systems: Sequence[System]) -> list[tuple[str, str]]:
    return [
        (LIMIT, "a bare process without HTTP: our decoder and engine; at 1 caller one picture at a time on all cores"),
        *((system.name, system.what) for system in systems),
        (CACHED, "the same bytes in each request"),
        (FRONT_PAGE, "ours, a pause before each picture: from the first byte of its upload to the event `analyzed`"),
        (FRONT_PAGE_LIMIT, "bare decode and forward on all cores, with such pauses"),
    ]


def systems_table(names: Sequence[str], figures: Mapping[Key, Figures]) -> str:
    """Show what was measured of these, at each number of callers."""
    head = (
        *("callers", "system", "pictures/s: median (range)", "of limit", "ours is", "p50 ms", "p99 ms"),
        *("refused", "failed", "CPU-ms each", "callers' CPU-ms", "by process"),
    )
    levels = sorted({callers for name, callers in figures if name in names})
    rows = []
    for callers, name in ((callers, name) for callers in levels for name in names if (name, callers) in figures):
        its, ours, limit = figures[name, callers], figures.get((OURS, callers)), figures.get((LIMIT, callers))
        rows.append(
            [
                *(f"{callers}", name, _rate(its), _share(its, limit), _share(ours, its) if name != OURS else NOTHING),
                # A worker of the limit takes pictures by the batch: a single one's latency says nothing.
                *((NOTHING, NOTHING) if name == LIMIT and callers > 1 else _latencies(its)),
                *(f"{len(its.refusals_ms)}", f"{its.failures}", f"{its.total_cpu_ms:.1f}"),
                *(f"{its.client_cpu_ms:.1f}" if name != LIMIT else NOTHING, by_process(its.cpu_ms)),
            ]
        )
    return table(head, rows)


def troubles(figures: Mapping[Key, Figures], unavailable: Mapping[str, str]) -> str:
    """Tell what was not measured, what failed, and what was disturbed; empty where nothing was."""
    told = [f"- {name} was not measured, or not in all rounds: {reason}" for name, reason in unavailable.items()]
    for (name, callers), its in figures.items():
        if its.failures:
            told.append(f"- {name}, {callers} callers: {its.failures} failed, the first with: {its.first_failure}")
        if its.others_share > UNQUIET_SHARE:
            told.append(f"- {name}, {callers} callers: others took {its.others_share:.0%} of the machine's time")
    return "\n".join(told)


def by_process(cpu_ms: Mapping[str, float], digits: int = 1) -> str:
    """Show each role's CPU-ms, the largest first; what rounds to nothing is left out."""
    shown = ((role, f"{ms:.{digits}f}") for role, ms in sorted(cpu_ms.items(), key=lambda item: -item[1]))
    return ", ".join(f"{role} {ms}" for role, ms in shown if float(ms))


def _rate(figures: Figures) -> str:
    """Show the median of the rounds' rates, and their range."""
    return f"{figures.rate:.1f} ({min(figures.rates):.1f}–{max(figures.rates):.1f})"


def _share(one: Figures | None, other: Figures | None) -> str:
    """Show how many times the other's rate the one is."""
    return f"{ratio(one.rate, other.rate):.2f}×" if one is not None and other is not None else NOTHING


def _latencies(figures: Figures) -> tuple[str, str]:
    """Show the median and the worst but one in a hundred, in ms."""
    if not figures.latencies_ms:
        return NOTHING, NOTHING
    median_ms, tail_ms = (percentile(figures.latencies_ms, share) for share in (0.5, 0.99))
    return f"{median_ms:.1f}", f"{tail_ms:.1f}"
