"""Prometheus scrapes a service whose parts are killed one after another: each alert fires at its own
fault and at no other.

The rules are monitoring/alerts.yaml, every duration divided by `SPEED`. The tests are one story, in this order: each
finds the service as the one before has left it.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import yaml
from PIL import Image

from deployments.telemetry import CATALOGUE
from tests.support.fake_ollama import Answer, FakeOllama
from tests.support.frail_clip import POISON
from tests.support.in_process import ANALYZE, STREAM
from tests.support.pictures import photograph_path
from tests.support.prometheus import Prometheus, faster, program
from tests.support.service import Service, application

pytestmark = pytest.mark.serve

ROOT = Path(__file__).parents[1]
GROUPS = yaml.safe_load((ROOT / "monitoring/alerts.yaml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
DASHBOARD = json.loads((ROOT / "monitoring/dashboard.json").read_text())
PHOTOGRAPH = photograph_path("china").read_bytes()
OTHER = "/other"
SPEED = 60
SOON_S = 60
PATIENCE_S = 15
TOKENS = ["A ", "temple ", "by ", "the ", "lake."]

EXPORT = {
    "RAY_metrics_report_interval_ms": "2000",
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "1000",
    "RAY_SERVE_STATUS_GAUGE_REPORT_INTERVAL_S": "1",
}
"""More often than by default, as the rules are faster; what a replica tells of its state is forgotten after 4 s."""


class Watched(NamedTuple):
    """A service, the Ollama of its application `main`, and who watches it."""

    service: Service
    ollama: FakeOllama
    prometheus: Prometheus
    ends: ExitStack

    def send(self, image: bytes = PHOTOGRAPH, route: str = ANALYZE, prefix: str = "", **form: str) -> int:
        """Send a picture; gives the status, 0 where none came."""
        with suppress(httpx.HTTPError):
            url = f"{self.service.url}{prefix}{route}"
            return httpx.post(url, files={"image": image}, data=form, timeout=PATIENCE_S).status_code
        return 0

    def fires(self, alert: str, **labels: str) -> bool:
        """Wait until an alert fires; whether it does soon."""
        wanted = {"alertname": alert, **labels}
        return self.prometheus.wait_for(
            lambda: any(wanted.items() <= found.items() for found in self.prometheus.alerts()), SOON_S
        )

    def values(self, expression: str) -> list[float]:
        """Give the values of an expression, once it has some, and numbers: a busy machine leaves gaps."""
        found: list[float] = []

        def ask() -> bool:
            found[:] = self.prometheus.ask(expression).values()
            return bool(found) and all(map(math.isfinite, found))

        assert self.prometheus.wait_for(ask, SOON_S), expression
        return found

    def silent(self, *alerts: str) -> bool:
        """Whether none of these fires, or is about to."""
        found = [*self.prometheus.alerts(), *self.prometheus.alerts("pending")]
        return not {alert["alertname"] for alert in found} & set(alerts)


@pytest.fixture(scope="module")
def watched(tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    program("prometheus")
    with ExitStack() as stack, FakeOllama(parallel=8) as ollama, FakeOllama() as others_ollama:
        ollama.answer = others_ollama.answer = Answer(TOKENS)
        impatient = {"hosts": [ollama.url], "first_token_timeout_s": 2, "total_timeout_s": 3}
        args = {"clip": {"model": str(tiny_clip)}, "ollama": impatient, "limits": {"max_requests": 2}}
        main = application("main", "/", {**args, "require_ollama": True}, builder="tests.support.frail_clip:build")
        other = application("other", OTHER, {"clip": {"model": "no/where"}, "ollama": {"hosts": [others_ollama.url]}})
        for entry in (main, other):
            entry["deployments"].append({"name": "OllamaDeployment"})
            for deployment in entry["deployments"]:
                deployment["health_check_period_s"] = 1
        service = stack.enter_context(Service([main, other], {"HF_HUB_OFFLINE": "1", **EXPORT}))
        target = httpx.URL(service.metrics_url).netloc.decode()
        with Prometheus(tmp_path_factory.mktemp("prometheus"), target, faster(RULES, SPEED)) as prometheus:
            yield Watched(service, ollama, prometheus, stack)


def picture(number: int, colour: Sequence[int] = (90, 120, 60)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64 + number), tuple(colour)).save(buffer, "PNG")
    return buffer.getvalue()


@contextmanager
def again_and_again(work: Callable[[], object], pause_s: float = 0.2) -> Iterator[None]:
    """Do it until the block ends."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(pause_s):
            work()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_all_is_quiet_but_for_the_stand_in_of_the_other_application(watched: Watched) -> None:
    for number in range(10):
        assert watched.send(picture(number)) == 200
        assert watched.send(picture(number), STREAM) == 200
        assert watched.send(picture(number), prefix=OTHER) == 200
    assert watched.fires("ImageAnalyzerOnFallback", application="other", part="analyzer")
    assert [alert["application"] for alert in watched.prometheus.alerts()] == ["other"]
    assert watched.prometheus.alerts("pending") == []


def test_the_first_failure_ever_is_seen(watched: Watched) -> None:
    assert watched.send(picture(0, POISON), analysis_only="true") == 500
    assert watched.fires("ImageAnalyzerFault", application="main")
    assert watched.silent("ImageAnalyzerFailing"), "one failure of a few pictures wakes nobody"


def test_failures_spend_the_budget(watched: Watched) -> None:
    for number in range(1, 10):
        assert watched.send(picture(number, POISON), analysis_only="true") == 500
        assert watched.send(picture(number)) == 200
    assert watched.fires("ImageAnalyzerFailing", application="main")


@contextmanager
def callers(watched: Watched) -> Iterator[None]:
    """Two, by either route, one of whom sends each picture twice."""
    sizes = count(200)
    streaming = again_and_again(lambda: watched.send(picture(next(sizes)), STREAM))
    with streaming, again_and_again(lambda: watched.send(picture(next(sizes) // 2))):
        yield


def test_every_panel_shows_sensible_numbers(watched: Watched) -> None:
    seen: dict[str, list[float]] = {}
    with callers(watched):
        for panel in DASHBOARD["panels"]:
            for target in panel["targets"]:
                expression = target["expr"].replace("$application", "main").replace("$__rate_interval", "1m")
                values = seen[panel["title"]] = watched.values(expression)
                unit = panel["fieldConfig"]["defaults"]["unit"]
                most = {"ops": 100, "s": PATIENCE_S, "percentunit": 1, "short": 1000}[unit]
                assert all(0 <= value <= most for value in values), (expression, values)
    # One, mostly: a busy machine lets two pictures meet.
    assert 0.99 < seen["Pictures in a batch"][0] < 1.5
    assert set(seen["Ollama servers up"]) == set(seen["Replicas running"]) == {1}
    assert set(seen["State of the parts"]) == {0, 1}
    mean = "sum(ray_image_analyzer_batch_pictures_sum) / sum(ray_image_analyzer_batch_pictures_count)"
    assert 0.99 < watched.values(mean)[0] < 1.5


def test_every_alert_has_something_to_look_at(watched: Watched) -> None:
    """Its metrics and labels exist, and it compares numbers: at any threshold it would fire."""
    ours = {f"ray_{metric.name}{ending}" for metric in CATALOGUE for ending in ("", "_total", "_bucket", "_count")}
    with callers(watched):
        for rule in faster(RULES, SPEED)["groups"][0]["rules"]:
            names = set(re.findall(r"\bray_image_analyzer_\w+", rule["expr"]))
            if names <= ours and "alert" in rule and "absent" not in rule["expr"]:
                at_any = re.sub(r"(>|<|==) [\d.]+( \* [\d.]+)?", ">= 0", rule["expr"])
                assert watched.values(at_any)


def test_too_many_callers_are_told_of(watched: Watched) -> None:
    assert watched.silent("ImageAnalyzerRefusing")
    watched.ollama.answer = Answer(TOKENS, ending="stall")
    with ExitStack() as crowd:
        for _ in range(4):  # Two are admitted, and wait; two are refused, again and again.
            crowd.enter_context(again_and_again(lambda: watched.send(picture(100))))
        assert watched.fires("ImageAnalyzerRefusing", application="main")
    watched.ollama.answer = Answer(TOKENS)


def test_a_dead_ollama_is_told_of(watched: Watched) -> None:
    assert watched.silent("OllamaServerDown", "ImageAnalyzerUnavailable")
    watched.ollama.stop()
    try:
        assert watched.fires("OllamaServerDown", application="main", host=watched.ollama.url)
        assert watched.fires("ImageAnalyzerUnavailable", application="main", part="writer")
    finally:
        watched.ollama.start()


def kill(service: Service, deployments: str) -> list[int]:
    found = service.replicas(deployments)
    for process in found:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return found


def test_what_no_living_ingress_has_seen_fails_all_the_same(watched: Watched) -> None:
    watched.ollama.answer = Answer(TOKENS, ending="stall")
    with ThreadPoolExecutor(1) as callers:
        chats = len(watched.ollama.chats)
        waiting = callers.submit(watched.send, picture(102))
        assert watched.ollama.wait_until(lambda server: len(server.chats) > chats, PATIENCE_S)
        kill(watched.service, "Ingress")
        assert waiting.result() >= 500
    watched.ollama.answer = Answer(TOKENS)
    by_serve_alone = """image_analyzer:failures:increase5m{seen_by="serve", application="main"} > 0
        unless on (application) image_analyzer:failures:increase5m{seen_by="application"} > 0"""
    assert watched.prometheus.wait_for(lambda: watched.prometheus.ask(by_serve_alone), SOON_S)


def test_a_deployment_without_a_living_replica_is_told_of(watched: Watched) -> None:
    assert watched.prometheus.wait_for(
        lambda: watched.silent("ImageAnalyzerNoReplica", "ImageAnalyzerUnhealthy"), SOON_S
    )
    with again_and_again(lambda: [kill(watched.service, name) for name in ("ClipDeployment", "Ingress")]):
        for deployment in ("ClipDeployment", "Ingress"):
            assert watched.fires("ImageAnalyzerNoReplica", application="main", deployment=deployment)
        assert watched.fires("ImageAnalyzerUnhealthy", application="main")


def test_a_service_that_is_gone_is_told_of(watched: Watched) -> None:
    assert watched.silent("ImageAnalyzerGone")
    watched.ends.close()
    assert watched.fires("ImageAnalyzerGone")


def test_nothing_else_has_fired(watched: Watched) -> None:
    ever = watched.prometheus.ask('max by (application, alertname) (max_over_time(ALERTS{alertstate="firing"}[1h]))')
    fired = {(labels.get("application"), labels["alertname"]) for labels in map(dict, ever)}
    assert fired == {
        (None, "ImageAnalyzerGone"),
        ("other", "ImageAnalyzerOnFallback"),
        ("main", "ImageAnalyzerFailing"),
        ("main", "ImageAnalyzerFailingSlowly"),
        ("main", "ImageAnalyzerFault"),
        ("main", "ImageAnalyzerNoReplica"),
        ("main", "ImageAnalyzerRefusing"),
        ("main", "ImageAnalyzerUnavailable"),
        ("main", "ImageAnalyzerUnhealthy"),
        ("main", "OllamaServerDown"),
    }
