"""What a system takes at rest, as the results show it."""

from __future__ import annotations

from benchmarks.footprint import Footprint, Rest, by_role, summary, verdicts

OURS = Footprint(13.96, {"controller": Rest(40, 1, 150), "ingress": Rest(24.4, 2, 1024)})
LITSERVE = Footprint(5, {"server": Rest(1100, 3, 900)})


def test_a_system_is_shown_as_a_sum_and_by_process() -> None:
    measured = {"ours, tiny CLIP": OURS, "litserve": LITSERVE}

    assert "| ours, tiny CLIP | 64              | 3         | 1.15    | 14.0 " in summary(measured)
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in by_role(measured).splitlines()[2:]] == [
        ["ingress", "24.4 · 2 · 1024", "–"],
        ["controller", "40.0 · 1 · 150", "–"],
        ["server", "–", "1100.0 · 3 · 900"],
    ]


def test_each_number_is_the_median_of_the_rounds_though_a_process_was_not_there_in_all() -> None:
    rounds = [Footprint(s, {"ingress": Rest(cpu_ms, 2, 100)}) for s, cpu_ms in ((10, 3.0), (30, 1.0), (20, 2.0))]
    rounds[0] = Footprint(10, {**rounds[0].by_role, "idle": Rest(9, 1, 9)})

    assert Footprint.middle_of(rounds) == Footprint(20, {"ingress": Rest(2, 2, 100), "idle": Rest(0, 0, 0)})


def test_the_targets_are_those_of_the_model_s_size() -> None:
    judged = {
        what: verdict for what, _, _, verdict in verdicts({"ours, tiny CLIP": OURS, "ours, full-size CLIP": OURS})
    }

    assert set(judged.values()) == {"met"}
    assert "s to the first right answer, tiny CLIP" in judged
    late = Footprint(14.1, {"controller": Rest(81, 15, 1.4 * 1024)})
    assert [row[-1] for row in verdicts({"ours, tiny CLIP": late})] == ["not met"] * 4
