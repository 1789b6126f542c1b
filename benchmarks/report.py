"""The figures as Markdown: the same text on the screen and in `benchmarks/results.md`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.figures import Figures, percentile, ratio
from benchmarks.systems import CALLERS, LIMIT, OURS, RISING_CALLERS, System
from benchmarks.targets import CACHED, COMPARED_CALLERS, FRONT_PAGE, FRONT_PAGE_LIMIT, Key, verdicts

KEPT_FROM = "<!-- What follows was measured elsewhere; make bench keeps it. -->"
"""Where the part of the results file begins that this command does not write."""
_TABLE = re.compile(r"(<!-- table: (?P<name>\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
NOTHING = "–"
UNQUIET_SHARE = 0.1
"""Of all cores' time: above it a window is marked as disturbed."""


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
    sections = [
        "# Measured\n\n`make bench` writes this file; nothing in it is typed in.",
        table(("", ""), machine.items()),
        method,
        _disturbed(figures),
        "\n".join(f"- `{name}`: {what}" for name, what in _legend(systems)),
        *(_comparison(callers, systems, figures, unavailable) for callers in CALLERS),
        _rising(figures),
        _repeated(figures),
        _front_page(figures),
        *(_processes(callers, systems, figures) for callers in CALLERS),
        *extra,
        "## Targets\n\n" + table(("target", "bound", "measured", ""), verdicts(figures)),
        *_failures(figures, unavailable),
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


def _legend(systems: Sequence[System]) -> Iterator[tuple[str, str]]:
    yield LIMIT, "a bare process without HTTP: our decoder and engine; at 1 caller one picture at a time on all cores"
    for system in systems:
        yield system.name, system.what


def _comparison(
    callers: int, systems: Sequence[System], figures: Mapping[Key, Figures], unavailable: Mapping[str, str]
) -> str:
    ours, limit = figures.get((OURS, callers)), figures.get((LIMIT, callers))
    rows = []
    for name in (LIMIT, *(system.name for system in systems)):
        its = figures.get((name, callers))
        if its is None:
            rows.append([name, "see Failures" if name in unavailable else "left out", *[NOTHING] * 8])
            continue
        rows.append(
            [
                name,
                rate(its),
                share(its, limit),
                share(ours, its) if name != OURS else NOTHING,
                f"{its.total_cpu_ms:.1f}",
                f"{its.client_cpu_ms:.1f}" if name != LIMIT else NOTHING,
                # A worker of the limit takes pictures by the batch: a single one's latency says nothing.
                *((NOTHING, NOTHING) if name == LIMIT and callers > 1 else latencies(its)),
                f"{len(its.refusals_ms)}",
                f"{its.failures}",
            ]
        )
    head = (
        *("system", "pictures/s: median (range)", "of limit", "ours is", "CPU-ms each", "callers' CPU-ms"),
        *("p50 ms", "p99 ms", "refused", "failed"),
    )
    return f"## {callers} caller{'s' if callers > 1 else ''}\n\n{table(head, rows)}"


def _rising(figures: Mapping[Key, Figures]) -> str:
    levels = [callers for callers in (COMPARED_CALLERS, *CALLERS, *RISING_CALLERS) if (OURS, callers) in figures]
    rows: list[Sequence[str]] = []
    for callers in sorted(set(levels)):
        its = figures[OURS, callers]
        refused_ms = f"{percentile(its.refusals_ms, 0.99):.0f}" if its.refusals_ms else NOTHING
        rows.append(
            [
                *(f"{callers}", rate(its), share(its, figures.get((OURS, COMPARED_CALLERS))), *latencies(its)),
                *(f"{len(its.refusals_ms)}", refused_ms, f"{its.failures}"),
            ]
        )
    head = (
        *("callers", "pictures/s: median (range)", "of 16 callers", "p50 ms", "p99 ms"),
        *("refused", "refused within ms, p99", "failed"),
    )
    return f"## Ours under rising load\n\n{table(head, rows)}" if rows else ""


def _repeated(figures: Mapping[Key, Figures]) -> str:
    cached, uncached = figures.get((CACHED, COMPARED_CALLERS)), figures.get((OURS, COMPARED_CALLERS))
    if cached is None:
        return ""
    rows = [
        [name, rate(its), share(its, uncached), f"{its.total_cpu_ms:.1f}", *latencies(its), f"{its.failures}"]
        for name, its in (("a new picture each time", uncached), ("the same picture again", cached))
        if its is not None
    ]
    head = ("16 callers send", "answers/s: median (range)", "of new ones", "CPU-ms each", "p50 ms", "p99 ms", "failed")
    return f"## Ours, the same bytes again\n\n{table(head, rows)}"


def _front_page(figures: Mapping[Key, Figures]) -> str:
    its, limit = figures.get((FRONT_PAGE, 1)), figures.get((FRONT_PAGE_LIMIT, 1))
    if its is None or limit is None:
        return ""
    rows = [
        ["first byte of the upload to `analyzed`", *latencies(its), f"{its.failures}"],
        ["bare decode and forward, all cores", *latencies(limit), f"{limit.failures}"],
    ]
    told = table(("", "p50 ms", "p99 ms", "failed"), rows)
    return f"## Front page: an idle machine, a pause before each picture\n\n{told}"


def _processes(callers: int, systems: Sequence[System], figures: Mapping[Key, Figures]) -> str:
    rows = []
    for system in systems:
        its = figures.get((system.name, callers))
        if its is not None:
            rows.append([system.name, f"{its.total_cpu_ms:.1f}", by_process(its.cpu_ms)])
    title = f"## CPU-ms per picture by process, {callers} caller{'s' if callers > 1 else ''}"
    return f"{title}\n\n{table(('system', 'all', 'by process'), rows)}" if rows else ""


def _failures(figures: Mapping[Key, Figures], unavailable: Mapping[str, str]) -> Iterator[str]:
    told = [f"- {name} was not measured, or not in all rounds: {reason}" for name, reason in unavailable.items()]
    told += [
        f"- {name}, {callers} callers: {its.failures} failed, the first with: {its.first_failure}"
        for (name, callers), its in figures.items()
        if its.failures
    ]
    if told:
        yield "## Failures\n\n" + "\n".join(told)


def _disturbed(figures: Mapping[Key, Figures]) -> str:
    unquiet = [
        f"{name} at {callers} ({its.others_share:.0%})"
        for (name, callers), its in figures.items()
        if its.others_share > UNQUIET_SHARE
    ]
    told = "**Disturbed:** other processes took more than a tenth of the machine's time in a round of "
    return told + ", ".join(unquiet) + "." if unquiet else ""


def by_process(cpu_ms: Mapping[str, float], digits: int = 1) -> str:
    """Show each role's CPU-ms, the largest first; what rounds to nothing is left out."""
    shown = ((role, f"{ms:.{digits}f}") for role, ms in sorted(cpu_ms.items(), key=lambda item: -item[1]))
    return ", ".join(f"{role} {ms}" for role, ms in shown if float(ms))


def rate(figures: Figures) -> str:
    """Show the median of the rounds' rates, and their range."""
    return f"{figures.rate:.1f} ({min(figures.rates):.1f}–{max(figures.rates):.1f})"


def share(one: Figures | None, other: Figures | None) -> str:
    """Show how many times the other's rate the one is."""
    return f"{ratio(one.rate, other.rate):.2f}×" if one is not None and other is not None else NOTHING


def latencies(figures: Figures) -> tuple[str, str]:
    """Show the median and the worst but one in a hundred, in ms."""
    if not figures.latencies_ms:
        return NOTHING, NOTHING
    median_ms, tail_ms = (percentile(figures.latencies_ms, share) for share in (0.5, 0.99))
    return f"{median_ms:.1f}", f"{tail_ms:.1f}"
