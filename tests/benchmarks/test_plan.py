"""The plan of a load: docs/scaling.md says what it prints, and what it plans suffices."""

from __future__ import annotations

import pytest
import yaml

from benchmarks.plan import (
    CLIPS,
    INGRESSES,
    LARGE_BATCHES,
    LOADS_PER_S,
    OLLAMA,
    PAGE,
    REPLICAS,
    REPLICAS_BUSY,
    SERVERS_BUSY,
    Rented,
    full_per_s,
    planned,
    read,
    tables,
)
from benchmarks.report import filled
from benchmarks.service import ROOT

COSTS = read()


def test_the_page_says_what_is_printed() -> None:
    page = PAGE.read_text()
    assert filled(page, tables(COSTS)) == page


@pytest.mark.parametrize("rented", [OLLAMA, LARGE_BATCHES])
@pytest.mark.parametrize("per_s", LOADS_PER_S)
def test_nothing_that_is_planned_is_busier_than_it_may_be(rented: Rented, per_s: int) -> None:
    plan, full = planned(COSTS, rented, per_s), full_per_s(COSTS, rented)
    for part, count, busy in (
        ("ingress replica", plan.ingresses, REPLICAS_BUSY),
        ("ingress replica's places", plan.ingresses, REPLICAS_BUSY),
        ("CLIP replica", plan.clips, REPLICAS_BUSY),
        ("GPU under CLIP", plan.clip_gpus, REPLICAS_BUSY),
        ("OllamaDeployment replica", plan.writers, REPLICAS_BUSY),
        ("Ollama server", plan.servers, SERVERS_BUSY),
    ):
        assert per_s / count / full[part] <= busy + 1e-9, part


@pytest.mark.parametrize("rented", [OLLAMA, LARGE_BATCHES])
def test_each_replica_that_prompts_has_a_place_at_every_server(rented: Rented) -> None:
    plan = planned(COSTS, rented, 1000)
    assert plan.writers / plan.applications <= rented.places


def test_twice_the_rent_is_twice_the_price() -> None:
    plan = planned(COSTS, OLLAMA, 10)
    dear = Rented(core_hour=2 * OLLAMA.core_hour, gpu_hour=2 * OLLAMA.gpu_hour)
    assert plan.dollars_per_million(dear) == pytest.approx(2 * plan.dollars_per_million(OLLAMA))


def test_the_least_of_each_is_what_the_cluster_s_config_says() -> None:
    (application,) = yaml.safe_load((ROOT / "configs" / "cluster.yaml").read_text())["applications"]
    said = {entry["name"]: entry for entry in application["deployments"]}
    assert said["Ingress"]["autoscaling_config"]["min_replicas"] == INGRESSES
    assert said["ClipDeployment"]["autoscaling_config"]["min_replicas"] == CLIPS
    assert said["OllamaDeployment"]["num_replicas"] == REPLICAS
