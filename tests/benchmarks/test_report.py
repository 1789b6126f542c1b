"""The results file: what a reader finds in it."""

from __future__ import annotations

from pathlib import Path

from benchmarks.figures import Figures
from benchmarks.report import KEPT_FROM, results, table, write
from benchmarks.systems import FASTAPI, INFINITY, LIMIT, OURS, all_systems
from benchmarks.targets import Key
from tests.benchmarks.samples import at_rate, window

ALL = "With a model of ViT-B/32's size, random weights"


def text(figures: dict[Key, Figures], unavailable: dict[str, str] | None = None) -> str:
    return results({"commit": "abc1234"}, "Three rounds.", all_systems(quick=False), figures, unavailable or {}, [])


def rows(text: str, heading: str) -> list[list[str]]:
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def system_at_16(text: str, name: str) -> list[str]:
    (shown,) = (row[2:] for row in rows(text, ALL) if row[:2] == ["16", name])
    return shown


def test_a_table_is_even_and_keeps_every_cell() -> None:
    assert table(("system", "p50"), [("ours", "7"), ("a long name", "12")]).splitlines() == [
        "| system      | p50 |",
        "| ----------- | --- |",
        "| ours        | 7   |",
        "| a long name | 12  |",
    ]


def test_a_system_is_shown_with_range_both_ratios_and_its_processes_the_largest_first() -> None:
    cpu_s = {"proxy": 0.009, "ingress": 0.9, "command": 0.00001}
    rounds = [window(*[20] * rate, cpu_s=cpu_s) for rate in (20, 40, 30)]
    told = text({(LIMIT, 16): at_rate(100), (OURS, 16): at_rate(75), (FASTAPI, 16): Figures.of(rounds)})

    assert system_at_16(told, FASTAPI) == [
        *("30.0 (20.0–40.0)", "0.30×", "2.50×", "20.0", "20.0", "0", "0"),
        *("30.3", "0.0", "ingress 30.0, proxy 0.3"),
    ]


def test_refusals_and_failures_are_shown() -> None:
    broken = window(20)
    broken.outcome.add(500, 1)
    broken.outcome.first_failure = "500: out of order"
    told = text({(OURS, 128): Figures.of([window(20, refusals_ms=(2, 3))]), (OURS, 16): Figures.of([broken])})

    assert [row[7:9] for row in rows(told, ALL)[2:4]] == [["0", "1"], ["2", "0"]]
    assert system_at_16(told, OURS)[5:7] == ["0", "1"]
    assert "ours, 16 callers: 1 failed, the first with: 500: out of order" in told


def test_a_system_that_could_not_be_measured_has_a_reason_and_no_row() -> None:
    told = text({(OURS, 16): at_rate(75)}, {INFINITY: "did not install: no network"})

    assert INFINITY not in {row[1] for row in rows(told, ALL)[2:3]}
    assert "infinity was not measured, or not in all rounds: did not install: no network" in told


def test_a_disturbed_measurement_is_named() -> None:
    disturbed = "ours, 16 callers: others took 25% of the machine's time"
    assert disturbed in text({(OURS, 16): Figures.of([window(1, others_share=0.25)])})
    assert "others took" not in text({(OURS, 16): Figures.of([window(1, others_share=0.05)])})


def test_what_was_measured_elsewhere_stays_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "results.md"
    write(file, "old\n")
    file.write_text(f"{file.read_text()}\n{KEPT_FROM}\n\n## On a GPU\n")

    write(file, "new\n")
    write(file, "newer\n")

    assert file.read_text() == f"newer\n\n{KEPT_FROM}\n\n## On a GPU\n"
