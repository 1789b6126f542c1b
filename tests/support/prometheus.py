"""Debian's Prometheus, scraping a service and judging alerts; and promtool."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import yaml

from tests.support.ports import free_port

SWITCH = "PROMETHEUS_TESTS"
"""`required` in the environment makes a failure of what is otherwise skipped: for CI, which installs everything."""

INTERVAL = "1s"
START_LIMIT_S = 60
POLL_S = 0.25

Labels = Mapping[str, str]

_DURATION = re.compile(r"(?<=[\[:])(\d+)([smhd])|(?<=offset )(\d+)([smhd])|^(\d+)([smhd])$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def program(name: str) -> str:
    """Give the path of `prometheus` or `promtool`; skips the test where it is missing."""
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is needed: on Debian and Ubuntu, apt-get install prometheus"
        if os.environ.get(SWITCH) == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def promtool(*arguments: str | Path) -> str:
    """Run promtool; an AssertionError carries all that it printed."""
    done = subprocess.run(
        [program("promtool"), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def faster(rules: Sequence[Mapping[str, Any]], factor: int) -> dict[str, Any]:
    """Give a rule file with all windows, offsets and `for` of these rules shorter by a factor."""

    def shorter(found: re.Match[str]) -> str:
        number, unit = filter(None, found.groups())
        return f"{int(number) * _SECONDS[unit] * 1000 // factor}ms"

    changed = [
        {**rule, **{name: _DURATION.sub(shorter, rule[name]) for name in ("expr", "for") if name in rule}}
        for rule in rules
    ]
    return {"groups": [{"name": "faster", "rules": changed}]}


class Prometheus:
    """`with Prometheus(folder, target, rules) as prometheus`: scrapes and evaluates once a second.

    Args:
        folder: receives its configuration, its data and its log.
        target: host and port of the metrics.
        rules: a rule file's content.
    """

    def __init__(self, folder: Path, target: str, rules: Mapping[str, Any]) -> None:
        self._folder = folder
        self._url = f"http://127.0.0.1:{free_port()}"
        (folder / "rules.yaml").write_text(yaml.safe_dump(dict(rules)))
        scraped = {"job_name": "image-analyzer", "static_configs": [{"targets": [target]}]}
        (folder / "prometheus.yml").write_text(
            yaml.safe_dump(
                {
                    "global": {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL},
                    "rule_files": ["rules.yaml"],
                    "scrape_configs": [scraped],
                }
            )
        )

    def __enter__(self) -> Self:
        command = [
            program("prometheus"),
            f"--config.file={self._folder}/prometheus.yml",
            f"--storage.tsdb.path={self._folder}/data",
            f"--web.listen-address={self._url.removeprefix('http://')}",
        ]
        with (self._folder / "prometheus.log").open("wb") as log:
            self._running = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            self.wait_for(lambda: httpx.get(f"{self._url}/-/ready").is_success, START_LIMIT_S)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _stop(self) -> None:
        self._running.kill()
        self._running.wait()

    def ask(self, expression: str) -> dict[frozenset[tuple[str, str]], float]:
        """Give what an expression is now: the labels of each series and its value."""
        answer = httpx.get(f"{self._url}/api/v1/query", params={"query": expression}, timeout=10).json()
        assert answer["status"] == "success", f"{expression}: {answer}"
        return {frozenset(found["metric"].items()): float(found["value"][1]) for found in answer["data"]["result"]}

    def alerts(self, state: str = "firing") -> list[Labels]:
        """Give the labels of what fires now, the alert's name under `alertname`."""
        answer = httpx.get(f"{self._url}/api/v1/alerts", timeout=10).json()
        return [alert["labels"] for alert in answer["data"]["alerts"] if alert["state"] == state]

    def wait_for(self, condition: Callable[[], Any], limit_s: float) -> bool:
        """Wait until a condition holds; whether it did within the limit."""
        until_s = time.monotonic() + limit_s
        while time.monotonic() < until_s:
            with suppress(httpx.HTTPError):
                if condition():
                    return True
            time.sleep(POLL_S)
        return False
