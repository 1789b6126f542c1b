"""The dashboard and the alerts: they ask only for what a running service exports, and each alert's cure is written."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
import yaml

from deployments.telemetry import CATALOGUE, VIEWS, Metric, Recorder, start_at_zero
from tests.support.fake_ollama import Answer, FakeOllama
from tests.support.in_process import ANALYZE, STREAM
from tests.support.pictures import photograph_path
from tests.support.service import Service

ROOT = Path(__file__).parents[1]
GROUPS = yaml.safe_load((ROOT / "monitoring/alerts.yaml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
DASHBOARD = json.loads((ROOT / "monitoring/dashboard.json").read_text())
OPERATIONS = (ROOT / "docs/operations.md").read_text()


def asked_for() -> set[str]:
    """Give every time series' name that a rule or a panel holds."""
    questions = [rule["expr"] for rule in RULES]
    questions += [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return {name for question in questions for name in re.findall(r"\bray_[a-z_]+", question)}


def exported_names(metric: Metric) -> set[str]:
    """Give the time series that Ray makes of a metric."""
    endings = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}[metric.kind]
    return {f"ray_{metric.name}{ending}" for ending in endings}


def missing_from(exposition: str) -> set[str]:
    """Give what is in our catalogue, or Serve's and asked for, and not in a scrape."""
    held = set(re.findall(r"^(ray_\w+){", exposition, re.MULTILINE))
    serves = {name for name in asked_for() if name.startswith("ray_serve_")}
    return ({name for metric in CATALOGUE for name in exported_names(metric)} | serves) - held


def test_what_is_missing_is_found() -> None:
    assert missing_from("") >= {"ray_image_analyzer_requests_total", "ray_serve_deployment_replica_healthy"}


def test_every_metric_is_on_the_dashboard_or_in_an_alert() -> None:
    assert {metric.name for metric in CATALOGUE if not exported_names(metric) & asked_for()} == set()


def test_every_metric_is_explained() -> None:
    assert {metric.name for metric in CATALOGUE if f"`{metric.name}`" not in OPERATIONS} == set()


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_every_alert_has_its_cure(rule: dict[str, Any]) -> None:
    document, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert document == "docs/operations.md"
    assert f"### {rule['alert']}\n" in OPERATIONS
    assert anchor == rule["alert"].lower()


def test_the_operator_s_rules_are_prometheus_s() -> None:
    _, rule = yaml.safe_load_all((ROOT / "monitoring/kuberay.yaml").read_text())
    assert rule["spec"] == {"groups": GROUPS}


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: str(metric.name))
def test_a_metric_is_recorded_with_its_kind_tags_and_bounds(metric: Metric) -> None:
    rays, tags = Mock(), dict.fromkeys(metric.tags, "x")
    Recorder(rays)(metric, 2, **tags)
    kind, method = {
        "counter": (rays.Counter, "inc"),
        "gauge": (rays.Gauge, "set"),
        "histogram": (rays.Histogram, "observe"),
    }[metric.kind]
    bounds = {"boundaries": list(metric.bounds)} if metric.kind == "histogram" else {}
    kind.assert_any_call(metric.name, description=metric.description, tag_keys=metric.tags, **bounds)
    getattr(kind.return_value, method).assert_called_once_with(2, tags)


def test_a_counter_starts_at_zero_for_every_combination() -> None:
    recorded: list[dict[str, str]] = []

    def record(metric: Metric, value: float = 1, **tags: str) -> None:
        assert metric is VIEWS
        assert not value
        recorded.append(tags)

    start_at_zero(record, VIEWS, ["model", "cache"])
    assert recorded == [{"origin": "model"}, {"origin": "cache"}]


PHOTOGRAPH = photograph_path("china").read_bytes() + b"unlike any other test's"
WISH = "a wish that no log may hold"
EXPORT_LIMIT_S = 60
"""Ray exports every few seconds, and looks at each replica's health every ten."""


@pytest.fixture(scope="module")
def watched(plain_service: Service, ollama: FakeOllama) -> Service:
    """A service after a picture, the same again as a stream, and what is no picture."""
    ollama.answer = Answer(tokens=["A ", "temple."])
    for route in (ANALYZE, STREAM):
        answer = httpx.post(
            plain_service.url + route,
            files={"image": ("picture.jpg", PHOTOGRAPH)},
            data={"user_prompt": WISH},
            headers={"X-Request-ID": f"of-{route.rpartition('/')[2]}"},
            timeout=30,
        )
        assert answer.status_code == 200
    assert httpx.post(plain_service.url + ANALYZE, files={"image": ("no.jpg", b"no picture")}).status_code == 400
    return plain_service


def replica_log(service: Service, deployment: str) -> list[dict[str, Any]]:
    paths = [path for path in service.log_files() if path.name.startswith(f"replica_main_{deployment}")]
    return [json.loads(line) for path in paths if path.suffix == ".log" for line in path.read_text().splitlines()]


@pytest.mark.serve
def test_a_running_service_exports_all_that_is_asked_for(watched: Service) -> None:
    until_s = time.monotonic() + EXPORT_LIMIT_S
    while (missing := missing_from(watched.metrics())) and time.monotonic() < until_s:
        time.sleep(1)
    assert missing == set()


@pytest.mark.serve
def test_each_picture_leaves_a_line_of_json_with_its_stages_and_nothing_of_its_content(watched: Service) -> None:
    lines = {line["request_id"]: line for line in replica_log(watched, "Ingress") if "outcome" in line}
    first, again = lines["of-analyze"], lines["of-analyze-stream"]
    told = [first[name] for name in ("outcome", "origin", "analyzer", "source")]
    assert told == ["answered", "model", "clip", "ollama"]
    assert first["took_ms"] >= first["decode_ms"] + first["analysis_ms"] + first["prompt_ms"] > 0
    assert again["origin"] == "cache"
    assert "analysis_ms" not in again
    assert "refused" in {line["outcome"] for line in lines.values()}
    everything = "".join(path.read_text(errors="replace") for path in watched.log_files())
    assert WISH not in everything
    assert "temple" not in everything


@pytest.mark.serve
def test_the_log_names_the_ollama_server_of_a_prompt(watched: Service) -> None:
    written = [line for line in replica_log(watched, "OllamaDeployment") if "wrote a prompt" in line["message"]]
    assert {line["request_id"] for line in written} >= {"of-analyze", "of-analyze-stream"}
    assert all(line["message"].startswith("http://127.0.0.1:") for line in written)


@pytest.mark.serve
def test_tracing_follows_a_request_to_each_of_the_other_deployments(watched: Service) -> None:
    traces: dict[str, set[str]] = {}
    for path in watched.log_files():
        if path.parent.name == "spans":
            deployment = path.name.split("_")[2]
            for trace in re.findall(r'"trace_id": "(\w+)"', path.read_text()):
                traces.setdefault(trace, set()).add(deployment)
    for other in ("ClipDeployment", "OllamaDeployment"):
        assert {"Ingress", other} in traces.values()
