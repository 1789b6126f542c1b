"""The results file: what a reader finds in it."""

from __future__ import annotations

from pathlib import Path

from benchmarks.figures import Figures
from benchmarks.report import KEPT_FROM, results, table, write
from benchmarks.systems import FASTAPI, INFINITY, LIMIT, OURS, all_systems
from benchmarks.targets import Key
from tests.benchmarks.samples import at_rate, window


def text(figures: dict[Key, Figures], unavailable: dict[str, str] | None = None) -> str:
    return results({"commit": "abc1234"}, "Three rounds.", all_systems(quick=False), figures, unavailable or {}, [])


def row(text: str, heading: str, name: str) -> list[str]:
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    (line,) = (line for line in section.splitlines() if line.startswith(f"| {name} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_table_is_even_and_keeps_every_cell() -> None:
    assert table(("system", "p50"), [("ours", "7"), ("a long name", "12")]).splitlines() == [
        "| system      | p50 |",
        "| ----------- | --- |",
        "| ours        | 7   |",
        "| a long name | 12  |",
    ]


def test_a_system_is_shown_with_range_and_both_ratios() -> None:
    rounds = [window(*[20] * rate, cpu_s={"server": 0.9}) for rate in (20, 40, 30)]
    shown = row(
        text({(LIMIT, 16): at_rate(100), (OURS, 16): at_rate(75), (FASTAPI, 16): Figures.of(rounds)}),
        "16 callers",
        FASTAPI,
    )

    assert shown == [FASTAPI, "30.0 (20.0–40.0)", "0.30×", "2.50×", "30.0", "0.0", "20.0", "20.0", "0", "0"]


def test_refusals_and_failures_are_shown() -> None:
    figures = Figures.of([window(20, refusals_ms=(2, 3))])
    figures_with_failure = Figures.of([window(20)])
    broken = window(20)
    broken.outcome.add(500, 1)
    broken.outcome.first_failure = "500: out of order"

    assert row(text({(OURS, 128): figures, (OURS, 16): figures_with_failure}), "Ours under rising load", "128")[
        -3:
    ] == [
        "2",
        "3",
        "0",
    ]
    told = text({(OURS, 16): Figures.of([broken])})
    assert row(told, "16 callers", OURS)[-2:] == ["0", "1"]
    assert "ours, 16 callers: 1 failed, the first with: 500: out of order" in told


def test_a_system_that_could_not_be_measured_has_a_row_and_a_reason_and_no_number() -> None:
    told = text({(OURS, 16): at_rate(75)}, {INFINITY: "did not install: no network"})

    assert row(told, "16 callers", INFINITY)[1:] == ["see Failures", *["–"] * 8]
    assert "infinity was not measured, or not in all rounds: did not install: no network" in told


def test_cpu_time_is_told_by_process_the_largest_first() -> None:
    busy = window(1, cpu_s={"proxy": 0.0004, "CLIP replica": 0.021, "ingress": 0.009, "command": 0.00001})
    shown = row(text({(OURS, 16): Figures.of([busy])}), "CPU-ms per picture by process, 16 callers", OURS)

    assert shown == [OURS, "30.4", "CLIP replica 21.0, ingress 9.0, proxy 0.4"]


def test_a_disturbed_measurement_is_named() -> None:
    assert "ours at 16 (25%)" in text({(OURS, 16): Figures.of([window(1, others_share=0.25)])})
    assert "Disturbed" not in text({(OURS, 16): Figures.of([window(1, others_share=0.05)])})


def test_what_was_measured_elsewhere_stays_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "results.md"
    write(file, "old\n")
    file.write_text(f"{file.read_text()}\n{KEPT_FROM}\n\n## On a GPU\n")

    write(file, "new\n")
    write(file, "newer\n")

    assert file.read_text() == f"newer\n\n{KEPT_FROM}\n\n## On a GPU\n"
