"""`image-analyzer serve`, `status` and `deploy` as people type them, on real Ray: started, stopped and killed."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from benchmarks.processes import end, session_members, sessions_below
from serve_app.cli.ray_env import SWITCH
from tests.support.fake_ollama import Answer, FakeOllama
from tests.support.in_process import ANALYZE, READY, STREAM
from tests.support.listening import ports_open_to_others
from tests.support.ports import free_port

pytestmark = pytest.mark.serve

ROOT = Path(__file__).parents[1]
COMMAND, RAY, SERVE = (Path(sys.executable).with_name(name) for name in ("image-analyzer", "ray", "serve"))
PHOTOGRAPH = (ROOT / "examples" / "coffee.jpg").read_bytes()
START_LIMIT_S, STOP_LIMIT_S, GONE_LIMIT_S = 200, 60, 10
PAGE_LIMIT_S = 5
PATIENCE_S = 30
POLL_S = 0.1
CALLERS = 8

PAGES = {
    "/api/images/health": '"analyzer_initialized"',
    "/stats": "Statistics Report for HAProxy",
    "/metrics": "\nhaproxy_",
}
"""Path → what shows that it is the page that must stay on this machine."""

WITH_FEW_FILES = ("/bin/sh", "-c", 'ulimit -n 512 && exec "$@"', "sh")
IN_BACKGROUND = ("/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh")
"""As a shell without job control starts `… &`: with SIGINT ignored."""


class Serving:
    """The command at work, its service ready."""

    def __init__(self, process: subprocess.Popen[str], config: Path, environment: Mapping[str, str], told: str) -> None:
        self.process = process
        self.config = config
        self.environment = environment
        self.told = told
        self.url = told.partition("listens at ")[2].partition(",")[0]
        self.sessions = sessions_below(process.pid)

    def members(self) -> list[int]:
        """List its living processes."""
        return session_members(self.sessions)

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the command in another terminal."""
        return subprocess.run(
            [COMMAND, *arguments], env=self.environment, capture_output=True, text=True, timeout=START_LIMIT_S
        )

    def stop(self, number: int = signal.SIGINT) -> str:
        """Ask it to stop; gives what it says from then on."""
        self.process.send_signal(number)
        return self.process.communicate(timeout=STOP_LIMIT_S)[0]


@contextmanager
def serving(
    folder: Path,
    variables: Mapping[str, str],
    *,
    under: tuple[str, ...] = (),
    ollama: str = "",
    more: str = "",
    logging: str = "",
    options: tuple[str | Path, ...] = (),
) -> Iterator[Serving]:
    """Start the shipped config as a newcomer does: no weights, no hub, an empty home; `more` is put at its end."""
    port, nobody = free_port(), f"http://127.0.0.1:{free_port()}"
    config = folder / "serve_config.yaml"
    shipped = (ROOT / "serve_config.yaml").read_text().replace("port: 8000", f"port: {port}")
    config.write_text(shipped.replace("logging_config:\n", f"logging_config:\n{logging}") + more)
    home = folder / "home"
    home.mkdir()
    # Short, because Ray puts sockets into it.
    rays = Path(tempfile.mkdtemp(prefix="ia-", dir="/tmp"))
    environment = {
        **os.environ,
        "HOME": str(home),
        "HF_HOME": str(home),
        "HF_ENDPOINT": nobody,
        "OLLAMA_HOST": ollama or nobody,
        "RAY_TMPDIR": str(rays),
        **variables,
    }
    # What a Ray that has crashed leaves behind.
    (rays / "ray").mkdir()
    (rays / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    with subprocess.Popen(
        [*under, COMMAND, "serve", config, *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        watchdog = threading.Timer(START_LIMIT_S, process.kill)
        watchdog.start()
        sessions: set[int] = set()
        try:
            banner = []
            for line in process.stdout:
                banner.append(line.rstrip())
                if "Stop it:" in line:
                    break
            watchdog.cancel()
            told = "\n".join(banner)
            assert "Stop it:" in told, told
            service = Serving(process, config, environment, told)
            sessions = service.sessions
            yield service
        finally:
            watchdog.cancel()
            end(sessions_below(process.pid) | sessions)
            shutil.rmtree(rays, ignore_errors=True)


@pytest.mark.skipif(sys.platform != "linux", reason="fast mode is Linux's")
def test_it_starts_where_others_fail_answers_a_photograph_and_dies_whole(tmp_path: Path) -> None:
    """Behind a proxy that leads nowhere, with 512 files and the traces of another Ray; then killed hard."""
    proxied = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    with serving(tmp_path, proxied, under=WITH_FEW_FILES) as service:
        assert f"listens at {service.url}, after" in service.told
        assert "analyzer: objects" in service.told
        assert "writer:   template" in service.told
        assert "ollama serve" in service.told
        assert "Mode:     fast" in service.told

        answered = service.run("analyze", ROOT / "examples" / "coffee.jpg", "--url", service.url)
        assert answered.stdout.count("\n") == 1
        demo = answered.stderr
        for category in ("style", "mood", "composition", "color palette", "subjects"):
            (row,) = (line for line in demo.splitlines() if line.strip().startswith(f"{category}:"))
            assert row.count("%") == 3
        assert "palette:       #" in demo
        assert "prompt by template" in demo
        _assert_nothing_of_ours_is_open_to_others(service)

        service.process.kill()
        service.process.wait()
        deadline_s = time.monotonic() + GONE_LIMIT_S
        while (left := service.members()) and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
        assert left == []


def _assert_nothing_of_ours_is_open_to_others(service: Serving) -> None:
    """Ray's own ports are; neither our API is behind any of them, nor what HAProxy shows of itself."""
    ports = ports_open_to_others(service.members())
    assert ports, "Ray's own were expected"
    for port in ports:
        for path, mark in PAGES.items():
            with suppress(httpx.HTTPError):
                answer = httpx.get(f"http://127.0.0.1:{port}{path}", timeout=PAGE_LIMIT_S, trust_env=False)
                assert mark not in answer.text


class Crowd:
    """Callers of both routes who send their next picture as soon as they have an answer, until the service is gone."""

    def __init__(self, url: str) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.stopped_s = float("inf")
        self._url = url
        self._threads = [threading.Thread(target=self._call, args=(number % 2 == 0,)) for number in range(CALLERS)]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()

    @property
    def answered(self) -> int:
        """How many have an answer so far."""
        return sum(count for (_, outcome), count in list(self.outcomes.items()) if outcome in ANSWERS)

    def _call(self, streaming: bool) -> None:
        while True:
            began_s = time.monotonic()
            try:
                outcome = self._streamed() if streaming else self._answered()
            except httpx.ConnectError:
                return
            except httpx.HTTPError as error:
                outcome = type(error).__name__
            self.outcomes["before" if began_s < self.stopped_s else "after", outcome] += 1

    def _files(self) -> dict[str, bytes]:
        return {"image": PHOTOGRAPH + secrets.token_bytes(8)}

    def _answered(self) -> str:
        response = httpx.post(f"{self._url}{ANALYZE}", files=self._files(), timeout=PATIENCE_S)
        return _refusal(response) or response.json()["promptSource"]

    def _streamed(self) -> str:
        with httpx.stream("POST", f"{self._url}{STREAM}", files=self._files(), timeout=PATIENCE_S) as response:
            lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
        last = json.loads(lines[-1]) if lines else {}
        return _refusal(response) or f"{last.get('status')} {last.get('promptSource')}"


def _refusal(response: httpx.Response) -> str:
    if response.status_code == httpx.codes.OK:
        return ""
    return TOLD if response.status_code == 503 and "retry-after" in response.headers else str(response.status_code)


ANSWERS = {"ollama", "complete ollama"}
TOLD = "503, and when to come back"

ONE_INGRESS = "    deployments: [{name: Ingress, num_replicas: 1}]\n"


def test_two_services_are_told_apart_and_each_finishes_what_it_began(tmp_path: Path) -> None:
    """One in fast mode and one in plain, side by side on one machine."""
    folders = {name: tmp_path / name for name in ("fast", "plain")}
    for folder in folders.values():
        folder.mkdir()
    log_file = tmp_path / "log"
    log_file.write_text("of yesterday\n")
    parallel = f"      # as many at a time as there are callers\n        max_parallel: {CALLERS}\n"
    slowly = Answer(tokens=["A ", "temple ", "by ", "a ", "lake ", "at ", "dusk", "."], interval_s=0.1)
    with FakeOllama(slowly, parallel=CALLERS) as one, FakeOllama(slowly, parallel=CALLERS) as two:
        named = f"{one.url},{two.url}"
        with (
            serving(
                folders["fast"],
                {SWITCH: "1"},
                ollama=named,
                more=parallel,
                options=("--log-file", log_file),
            ) as fast,
            serving(
                folders["plain"],
                {SWITCH: "0"},
                under=IN_BACKGROUND,
                ollama=one.url,
                more=parallel + ONE_INGRESS,
                logging="  encoding: JSON\n",
            ) as plain,
        ):
            found = fast.run("doctor", fast.config).stdout
            assert all(f"Ollama: {server.version} answers at {server.url}" in found for server in (one, two)), found
            assert "Mode:     fast" in fast.told
            assert "Mode:     plain" in plain.told
            _assert_both_write_and_one_goes_on_where_the_other_is_killed(fast, one, two)
            _assert_status_and_deploy_meet_the_right_one(fast, plain)
            for service, number in ((fast, signal.SIGTERM), (plain, signal.SIGINT)):
                # With the one whose first server was killed.
                answered = _assert_all_that_was_begun_is_finished(service, number) + (service is fast)
                assert _told_in_the_log(service)["answered"] == answered
                if service is fast:
                    first, *others = log_file.read_text().splitlines()
                    assert first == "of yesterday"
                    # Ray brings these lines, and those of the very end perhaps not.
                    told = sum(" answered 200: " in line for line in others)
                    assert answered - CALLERS <= told <= answered


def _assert_both_write_and_one_goes_on_where_the_other_is_killed(service: Serving, *servers: FakeOllama) -> None:
    usual = servers[0].answer
    texts = {
        server.url: f"A temple of stone with a red roof, as the server at {server.url} sees it." for server in servers
    }
    for server in servers:
        server.answer = Answer([texts[server.url]], hold_at=1)
    with httpx.stream("POST", f"{service.url}{STREAM}", files={"image": PHOTOGRAPH}, timeout=PATIENCE_S) as response:
        events = (json.loads(line.removeprefix("data: ")) for line in response.iter_lines() if line)
        begun = next(event["text"] for event in events if event["status"] == "delta")
        killed, other = servers if servers[0].chats else reversed(servers)
        assert (len(killed.chats), other.chats) == (1, [])
        other.answer = Answer([texts[other.url]])
        killed.stop()
        rest = list(events)
    killed.start()
    assert texts[killed.url].startswith(begun)
    (restart,) = (at for at, event in enumerate(rest) if event["status"] == "generating")
    assert "".join(event.get("text", "") for event in rest[restart:]) == texts[other.url]
    assert (rest[-1]["status"], rest[-1]["promptSource"]) == ("complete", "ollama")
    assert rest[-1]["generatedPrompt"] == texts[other.url]
    for server in servers:
        server.answer = usual


def _assert_status_and_deploy_meet_the_right_one(fast: Serving, plain: Serving) -> None:
    plain_config = plain.config.read_text()
    plain.config.write_text(plain_config.replace("num_replicas: 1", "num_replicas: 2"))
    deployed = plain.run("deploy", plain.config)
    assert (deployed.returncode, "holds" in deployed.stdout) == (0, True), deployed.stdout + deployed.stderr
    told = {service.url: service.run("status", service.config).stdout for service in (fast, plain)}
    assert "Ingress: HEALTHY (2 RUNNING)" in told[plain.url]
    assert "health: degraded" in told[plain.url]
    assert told[fast.url].count("HEALTHY") == 3

    plain.config.write_text(plain_config.replace("device: auto", "device: gpu"))
    refused = plain.run("deploy", plain.config)
    assert (refused.returncode, "clip.device" in refused.stderr) == (2, True)
    plain.config.write_text(plain_config)
    elsewhere = plain.config.with_name("elsewhere.yaml")
    elsewhere.write_text((ROOT / "serve_config.yaml").read_text().replace("port: 8000", f"port: {free_port()}"))
    nobody = plain.run("status", elsewhere)
    assert (nobody.returncode, "No service of this user's runs at" in nobody.stderr) == (2, True)


def _told_in_the_log(service: Serving) -> Counter[str]:
    """Count outcomes in the files of the ingress's replicas, whose every line is JSON where the config says so."""
    found: Counter[str] = Counter()
    for file in Path(service.environment["RAY_TMPDIR"]).glob("ray/session_2*/logs/serve/*"):
        if not file.is_file():
            continue
        lines = file.read_text().splitlines()
        if "encoding: JSON" in service.config.read_text():
            found += Counter(json.loads(line).get("outcome", "") for line in lines if file.name.startswith("replica"))
        else:
            found["answered"] += sum(" answered 200: " in line for line in lines)
    return found


def _assert_all_that_was_begun_is_finished(service: Serving, number: int) -> int:
    """Give how many were answered."""
    with Crowd(service.url) as crowd:
        deadline_s = time.monotonic() + PATIENCE_S
        while sum(crowd.outcomes.values()) < CALLERS and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
        # What is written at once outlives whatever comes.
        assert crowd.answered <= _told_in_the_log(service)["answered"]
        crowd.stopped_s = time.monotonic()
        service.process.send_signal(number)
        unready = False
        while service.process.poll() is None and time.monotonic() < crowd.stopped_s + STOP_LIMIT_S:
            with suppress(httpx.HTTPError):
                unready |= httpx.get(f"{service.url}{READY}", timeout=PATIENCE_S).status_code == 503
            time.sleep(POLL_S)
        farewell = service.process.communicate(timeout=STOP_LIMIT_S)[0]
    assert service.process.returncode == 0, farewell
    assert farewell.strip().endswith("Stopped.")
    assert unready
    before = {outcome for when, outcome in crowd.outcomes if when == "before"}
    assert ANSWERS <= before <= {*ANSWERS, TOLD}, crowd.outcomes
    assert crowd.outcomes["after", TOLD], crowd.outcomes
    assert service.members() == []
    return crowd.answered


def test_a_second_signal_ends_it_at_once_and_a_cluster_is_joined_where_one_is_named(tmp_path: Path) -> None:
    rays = Path(tempfile.mkdtemp(prefix="ia-", dir="/tmp"))
    port = free_port()
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    command = f"{RAY} start --head --block --port={port} --node-ip-address=127.0.0.1 --include-dashboard=false"
    cluster = subprocess.Popen(
        [*command.split(), f"--temp-dir={rays}"],
        env={**os.environ, **own},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline_s = time.monotonic() + START_LIMIT_S
        asked = f"{RAY} status --address=127.0.0.1:{port}".split()
        while subprocess.run(asked, env={**os.environ, **own}, capture_output=True).returncode:
            assert time.monotonic() < deadline_s
            time.sleep(POLL_S)
        with FakeOllama() as ollama:
            ollama.answer = Answer(tokens=["A "], ending="stall")
            named = {**own, "RAY_ADDRESS": f"127.0.0.1:{port}"}
            with serving(tmp_path, named, ollama=ollama.url) as service:
                assert f"Joining the Ray cluster at 127.0.0.1:{port}" in service.told
                with httpx.stream(
                    "POST", f"{service.url}{STREAM}", files={"image": PHOTOGRAPH}, timeout=PATIENCE_S
                ) as stream:
                    assert next(stream.iter_lines())
                    service.process.send_signal(signal.SIGINT)
                    with pytest.raises(subprocess.TimeoutExpired):
                        service.process.wait(1)
                    service.stop()
                assert service.process.returncode == 0
        assert cluster.poll() is None, "the cluster is not ours to end"
    finally:
        end(sessions_below(cluster.pid) | {cluster.pid})
        cluster.wait()
        shutil.rmtree(rays, ignore_errors=True)


def test_serve_run_goes_on_working(tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "serve_config.yaml"
    config.write_text((ROOT / "serve_config.yaml").read_text().replace("port: 8000", f"port: {port}"))
    nobody = f"127.0.0.1:{free_port()}"
    environment = {**os.environ, "HOME": str(tmp_path), "HF_ENDPOINT": f"http://{nobody}"}
    environment["OLLAMA_HOST"] = f"{nobody},{nobody.replace('127.0.0.1', 'localhost')}"
    process = subprocess.Popen(
        [SERVE, "run", config], env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    sessions = {process.pid}
    try:
        deadline_s, answer = time.monotonic() + START_LIMIT_S, None
        while answer is None and time.monotonic() < deadline_s:
            with suppress(httpx.HTTPError):
                response = httpx.post(
                    f"http://127.0.0.1:{port}{ANALYZE}", files={"image": PHOTOGRAPH}, timeout=PATIENCE_S
                )
                answer = response.json() if response.status_code == httpx.codes.OK else None
            sessions |= sessions_below(process.pid)
            time.sleep(POLL_S)
        assert answer is not None
        assert answer["success"] is True
    finally:
        end(sessions)
        process.wait()
