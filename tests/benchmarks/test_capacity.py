"""The capacity model: it reproduces what was measured, and docs/scaling.md says what it prints."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import pytest
import simpy
import yaml

from benchmarks.capacity.__main__ import (
    HOUR,
    LARGE_BATCHES,
    LOADS_PER_S,
    MAX_WAITING,
    OLLAMA,
    PAGE,
    TOKENS,
    counts,
    curves,
    off,
    quick_tables,
)
from benchmarks.capacity.batches import Batches
from benchmarks.capacity.cores import Cores, Steps
from benchmarks.capacity.costs import Costs
from benchmarks.capacity.fit import fitted, read, split
from benchmarks.capacity.layouts import Gpu, max_parallel, on_cluster
from benchmarks.capacity.measure import MEASURED
from benchmarks.capacity.plan import INGRESSES, REPLICAS, SERVERS_BUSY, answer_ms, planned
from benchmarks.figures import percentile
from benchmarks.report import filled
from benchmarks.service import ROOT
from deployments.batching import Batching
from serve_app.settings import LimitSettings

CLOSE = 0.15


@pytest.fixture(scope="module")
def measured() -> Mapping[str, object]:
    return read(MEASURED)


@pytest.fixture(scope="module")
def costs(measured: Mapping[str, object]) -> Costs:
    return fitted(measured)


def test_every_measured_rate_and_median_is_simulated_within_15_percent(
    costs: Costs, measured: Mapping[str, object]
) -> None:
    compared = {
        callers: (
            off(level["rate"], answers.per_s),
            off(level["p50_ms"], percentile(sorted(answers.latencies_ms), 0.5)),
        )
        for callers, level, answers in curves(costs, measured)
    }
    assert len(compared) == 12
    assert {callers: shares for callers, shares in compared.items() if max(map(abs, shares)) > CLOSE} == {}


def test_the_page_says_what_is_printed(costs: Costs, measured: Mapping[str, object]) -> None:
    page = PAGE.read_text()
    assert filled(page, quick_tables(costs, measured)) == page


@pytest.mark.parametrize(("name", "gpu"), [("plan", OLLAMA), ("large_batches", LARGE_BATCHES)])
def test_the_page_s_plans_are_the_planner_s(name: str, gpu: Gpu, costs: Costs) -> None:
    _, _, rest = PAGE.read_text().partition(f"<!-- table: {name} -->\n")
    told = [line.strip("| ").split("|") for line in rest.partition("<!-- end")[0].splitlines()[2:]]
    columns = [[cell.strip() for cell in row] for row in told]
    plans = [planned(costs, gpu, TOKENS, per_s) for per_s in LOADS_PER_S]
    assert [row[1:9] for row in columns] == [list(counts(plan)) for plan in plans]
    assert [row[-1] for row in columns] == [f"{plan.dollars_per_million(HOUR):,.0f}" for plan in plans]


@pytest.mark.parametrize("gpu", [OLLAMA, LARGE_BATCHES])
@pytest.mark.parametrize("per_s", LOADS_PER_S)
def test_a_plan_has_places_for_all_prompts_under_way(gpu: Gpu, per_s: int, costs: Costs) -> None:
    plan = planned(costs, gpu, TOKENS, per_s)
    places = plan.cell.servers * plan.cell.writers * max_parallel(gpu, plan.cell.writers)
    assert plan.cell_per_s * answer_ms(gpu, TOKENS) / 1000 <= SERVERS_BUSY * places
    assert plan.cell.writers * max_parallel(gpu, plan.cell.writers) <= gpu.places


def test_what_the_plans_take_from_the_cluster_s_config_is_what_it_says() -> None:
    (application,) = yaml.safe_load((ROOT / "configs" / "cluster.yaml").read_text())["applications"]
    said = {entry["name"]: entry for entry in application["deployments"]}
    assert said["Ingress"]["autoscaling_config"]["min_replicas"] == INGRESSES
    assert said["ClipDeployment"]["autoscaling_config"]["min_replicas"] == REPLICAS
    assert said["OllamaDeployment"]["num_replicas"] == REPLICAS
    assert application["args"]["ollama"]["max_waiting"] == MAX_WAITING


def test_a_planned_application_refuses_nobody_and_half_of_it_refuses_many(costs: Costs) -> None:
    plan = planned(costs, OLLAMA, TOKENS, per_s=20)
    enough = on_cluster(costs, plan.cell, OLLAMA, TOKENS, max_waiting=8).stream(20, warm_up_s=3, window_s=20)
    assert enough.refused == 0
    assert enough.per_s == pytest.approx(20, rel=0.2)
    twice = on_cluster(costs, plan.cell, OLLAMA, TOKENS, max_waiting=8).stream(40, warm_up_s=3, window_s=20)
    assert twice.refused > 50


def test_slow_answers_need_more_ingress_replicas(costs: Costs) -> None:
    plan = planned(costs, LARGE_BATCHES, TOKENS, per_s=1000)
    under_way = 1000 * answer_ms(LARGE_BATCHES, TOKENS) / 1000
    assert plan.cells * plan.cell.ingresses * LimitSettings().max_requests > under_way


def test_what_a_call_and_what_a_picture_costs_follows_from_two_levels() -> None:
    assert split([12.0, 6.0], [1.0, 4.0]) == (4.0, 8.0)
    assert split([6.0, 6.0], [1.0, 4.0]) == (6.0, 0.0)


def test_a_free_runner_takes_all_that_waits() -> None:
    environment = simpy.Environment()

    def run(size: int) -> Generator[simpy.Event, Any, Sequence[bool]]:
        yield environment.timeout(10)
        return [True] * size

    batches = Batches(environment, run, Batching(streams=1, batch_size=3), max_waiting=4)
    first = batches.submit()
    environment.run(1)
    later = [batches.submit() for _ in range(5)]
    environment.run(100)
    assert batches.sizes == [1, 3, 1]
    assert [first.value, *(event.value for event in later)] == [True, True, True, True, True, False]


def test_cores_are_shared_in_turns() -> None:
    environment, ended_ms = simpy.Environment(), []
    cores = Cores(environment, 1)

    def work(ms: float) -> Steps:
        yield from cores.work(ms, urgent=False)
        ended_ms.append(environment.now)

    environment.process(work(20))
    environment.process(work(4))
    environment.run()
    assert ended_ms == [8, 24]
