"""The cluster's config on hosts of their own, with pretend GPUs: who runs where, and what a lost node costs.

Config and environment are those of `configs/kuberay.yaml`, word for word, but for where the file of the keys lies.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from tests.support.crowd import Crowd
from tests.support.fake_ollama import Answer, FakeOllama
from tests.support.hosts import HERE, Host, Hosts, run
from tests.support.in_process import ANALYZE, HEALTH
from tests.support.pictures import photograph_path
from tests.support.service import COMMAND, SERVE

pytestmark = pytest.mark.many_nodes

ROOT = Path(__file__).parents[2]
RAY_SERVICE = next(yaml.safe_load_all((ROOT / "configs" / "kuberay.yaml").read_text()))["spec"]
(WORKER,) = RAY_SERVICE["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]["containers"]
PHOTOGRAPH = photograph_path("china").read_bytes()
KEY = "a-key-for-the-cluster-test"
READY_LIMIT_S = 240
"""Three times what all takes where nothing else runs."""
FAILOVER_LIMIT_S = 60
"""With Ray's own settings a pulled cable is not even noticed in this time."""
HEAD_ADDRESS = "10.77.0.1:6379"
POLL_S = 0.2
PAUSE_S = 0.2
"""Between two pictures of a caller: all hosts sit on this machine's cores, and starting replicas need some of them."""
QUICK = Answer(tokens=["A ", "temple."])
SLOW = Answer(tokens=["A ", "temple ", "on ", "a ", "lake."], interval_s=0.1)
"""Slow enough that the loss of a node finds prompts that have begun."""
NEW_STYLES = ["fresco", "mosaic"]
REPLICAS = {"ClipDeployment": 3, "OllamaDeployment": 2, "Ingress": 3}
IN_ORDER = {"RUNNING", "DEPLOYING"}
QUICK_SCALING = {"ClipDeployment": (0.05, 4), "Ingress": (0.5, 4)}
"""Deployment → calls under way for each replica, and most replicas: what the tiny model and few callers reach."""
NEW_ARGS = {"palette_colours": 1}
NEW_CODE = "tests.support.frail_clip:build"
HEADLESS_S = 10
"""How long the workers are without a head, of Ray's 60 s."""
REDIS, REDIS_PORT = shutil.which("redis-server"), 6380
CPUS = 8
"""Of each worker: room for all replicas of an update, old and new."""


class Cluster:
    """A head without replicas, and three workers, two with a GPU each, on which the shipped config is deployed.

    They come as on Kubernetes: the config when there is one worker, the others after it.
    """

    def __init__(self, folder: Path, model: Path, ollama: FakeOllama) -> None:
        self.ollama = ollama
        self.config = folder / "config.yaml"
        self._token = secrets.token_hex(32)
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # as in the image
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self._token,
            "HF_HUB_OFFLINE": "1",
            "CLIP_MODEL_NAME": str(model),
            **{one["name"]: one["value"] for one in WORKER["env"]},
        }
        keys = folder / "api-keys"
        keys.write_text(f"test {KEY}\n")
        self.content: dict[str, Any] = yaml.safe_load(RAY_SERVICE["serveConfigV2"])
        """What is deployed; a test changes it and deploys it again."""
        (application,) = self.content["applications"]
        application["args"]["access"]["keys_file"] = str(keys)
        # Embedding one would take the cores that the hosts share.
        application["args"]["clip"] = {**application["args"].get("clip", {}), "vocabulary": []}
        state = {"RAY_REDIS_ADDRESS": f"{HERE}:{REDIS_PORT}"} if REDIS else {}
        names = [urlsplit(url).hostname or "" for url in application["args"]["ollama"]["hosts"]]
        self.hosts = Hosts(folder, self.environment, the_heads=state, names=names)
        self.statuses: list[str] = []
        """Of the application, each time that it was asked for."""

    @property
    def head(self) -> Host:
        return self.hosts.hosts[0]

    def written(self) -> Path:
        """Write the config as it is now, for a command to read."""
        self.config.write_text(yaml.safe_dump(self.content))
        return self.config

    def deploy(self) -> None:
        """Deploy the config as it is now."""
        dashboard = f"http://{self.head.address}:8265"
        run(str(SERVE), "deploy", str(self.written()), "-a", dashboard, environment=self.environment)

    def ask_head(self, path: str) -> dict[str, Any]:
        """Ask the head's dashboard."""
        url, headers = f"http://{self.head.address}:8265{path}", {"Authorization": f"Bearer {self._token}"}
        answer: dict[str, Any] = httpx.get(url, headers=headers, timeout=10).json()
        return answer

    def state(self) -> dict[str, Any]:
        application: dict[str, Any] = self.ask_head("/api/serve/applications/")["applications"]["image-analyzer"]
        self.statuses.append(application["status"])
        return application

    def add(self, *, cpus: int, gpus: Sequence[int]) -> None:
        """Add a host for each number of GPUs, and wait until they belong to the cluster."""
        added = self.hosts.add(cpus=cpus, gpus=gpus)
        assert soon(lambda: all(self.counts(host) for host in added)), [host.name for host in added]

    def counts(self, host: Host) -> bool:
        """Tell whether a host is a living node of the cluster."""
        nodes = self.ask_head("/nodes?view=summary")["data"]["summary"]
        return any(node["ip"] == host.address and node["raylet"]["state"] == "ALIVE" for node in nodes)

    def gpus_used(self) -> list[float]:
        """Give how much of its GPUs each node that has some has given away."""
        nodes = self.ask_head("/api/cluster_status")["data"]["clusterStatus"]["loadMetricsReport"]["usageByNode"]
        return [node["GPU"][0] for node in nodes.values() if "GPU" in node]

    def running(self, deployment: str) -> list[str]:
        """Give the address of each running replica's node."""
        replicas = self.state()["deployments"].get(deployment, {}).get("replicas", [])
        return sorted(replica["node_ip"] for replica in replicas if replica["state"] == "RUNNING")


def soon(condition: Callable[[], bool], limit_s: float = READY_LIMIT_S) -> bool:
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        try:
            if condition():
                return True
        except (httpx.HTTPError, KeyError, ValueError):
            pass
        time.sleep(POLL_S)
    return False


@contextmanager
def redis() -> Iterator[None]:
    """Run Redis where the hosts reach it, for the head to keep its state in; where it is not installed, do without."""
    if REDIS is None:
        yield
        return
    with subprocess.Popen(
        [REDIS, "--bind", HERE, "--port", str(REDIS_PORT), "--protected-mode", "no", "--save", ""],
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            yield
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def cluster(tiny_clip: Path) -> Iterator[Cluster]:
    if os.getpid() != 1:
        pytest.skip("hosts need a network of their own to be in: make test gives them one")
    folder = Path(tempfile.mkdtemp(prefix="ia-", dir="/tmp"))
    ollama = FakeOllama(QUICK, parallel=8, address=HERE, port=11434)
    cluster = Cluster(folder, tiny_clip, ollama)
    with cluster.hosts, ollama, redis():
        cluster.add(cpus=0, gpus=[0])
        cluster.add(cpus=CPUS, gpus=[1])
        cluster.deploy()
        assert soon(lambda: bool(cluster.state()["deployments"])), cluster.state()
        cluster.add(cpus=CPUS, gpus=[1, 0])
        assert soon(lambda: cluster.state()["status"] == "RUNNING"), cluster.state()
        yield cluster
    shutil.rmtree(folder, ignore_errors=True)


def crowds(hosts: list[Host], stack: ExitStack, *, callers: int = 2) -> list[Crowd]:
    """Send pictures, with prompts, to each of the hosts until the stack is closed."""
    return [
        stack.enter_context(
            Crowd(f"http://{host.address}:8000{ANALYZE}", PHOTOGRAPH, callers=callers, pause_s=PAUSE_S, key=KEY)
        )
        for host in hosts
    ]


def serving(cluster: Cluster) -> list[Host]:
    """Give the hosts that have an ingress of their own."""
    ingresses = cluster.running("Ingress")
    return [host for host in cluster.hosts.hosts if host.address in ingresses]


def answered(crowd: Crowd, count: int) -> bool:
    """Wait until so many more pictures have been answered."""
    begun_s = time.monotonic()
    return crowd.wait_until(lambda outcomes: sum(o.answered and o.began_s > begun_s for o in outcomes) >= count)


def test_whichever_worker_came_first_clip_is_on_two_and_every_one_takes_requests(cluster: Cluster) -> None:
    _, *workers = cluster.hosts.hosts
    assert set(cluster.running("ClipDeployment")) == {host.address for host in workers[:2]}
    assert soon(lambda: sorted(cluster.gpus_used()) == [0.5, 1]), cluster.gpus_used()
    assert len(set(cluster.running("OllamaDeployment"))) == REPLICAS["OllamaDeployment"]
    assert cluster.running("Ingress") == [host.address for host in workers]
    with ExitStack() as stack:
        everywhere = crowds(cluster.hosts.hosts, stack)
        assert all(answered(crowd, 5) for crowd in everywhere)
    outcomes = [outcome for crowd in everywhere for outcome in crowd.outcomes]
    assert {outcome.status for outcome in outcomes} == {200}
    assert {(outcome.body["analyzer"], outcome.body["promptSource"]) for outcome in outcomes} == {("clip", "ollama")}


def latest(crowd: Crowd) -> dict[str, Any]:
    body: dict[str, Any] = crowd.outcomes[-1].body or {}
    return body


def code_of(host: Host) -> Any:
    """Tell which code its health answer shows: only the new one calls itself something."""
    health = httpx.get(f"http://{host.address}:8000{HEALTH}", timeout=10).json()
    return health["components"]["analyzer"]["facts"].get("code")


def test_new_labels_and_then_a_new_version_come_without_a_lost_request(cluster: Cluster) -> None:
    """The labels by our command, in the head's pod with the token that is there; the version as KubeRay does."""
    there = cluster.environment | {"RAY_ADDRESS": "127.0.0.1:6379"}

    def said(*command: str | Path) -> str:
        return run(*cluster.head.inside(*map(str, command)), environment=there)

    (application,) = cluster.content["applications"]
    (clip,) = (entry for entry in application["deployments"] if entry["name"] == "ClipDeployment")
    labels = yaml.safe_load((ROOT / "configs" / "labels.yaml").read_text())
    clip["user_config"] = {"labels": labels | {"style": {"labels": NEW_STYLES}}}
    cluster.statuses.clear()
    with ExitStack() as stack:
        hosts = serving(cluster)
        everywhere = crowds(hosts, stack)
        assert all(answered(crowd, 3) for crowd in everywhere)
        assert "holds." in said(COMMAND, "deploy", cluster.written())
        assert soon(lambda: all(latest(crowd)["analysis"]["style"][0]["value"] in NEW_STYLES for crowd in everywhere))
        assert "RUNNING" in said(SERVE, "status")
        assert "health: ok" in said(COMMAND, "status", cluster.config)
        application["args"]["image"], application["import_path"] = NEW_ARGS, NEW_CODE
        cluster.deploy()
        assert soon(lambda: all(len(latest(crowd)["palette"]) == 1 for crowd in everywhere))
        assert soon(lambda: cluster.state()["status"] == "RUNNING"), cluster.state()
        assert {code_of(host) for host in hosts} == {"frail"}
    assert [crowd.failures for crowd in everywhere] == [[]] * len(everywhere)
    assert set(cluster.statuses) <= IN_ORDER


class Moving:
    """Watches replicas come back elsewhere: `all_run` until it is true, then `back_s` per deployment, from the loss."""

    def __init__(self, cluster: Cluster, lost: Host) -> None:
        self.back_s: dict[str, float] = {}
        self._cluster, self._lost, self._begun_s = cluster, lost, time.monotonic()

    def all_run(self) -> bool:
        for name, count in REPLICAS.items():
            running = self._cluster.running(name)
            if name not in self.back_s and len(running) == count and self._lost.address not in running:
                self.back_s[name] = round(time.monotonic() - self._begun_s, 1)
        return len(self.back_s) == len(REPLICAS)


@pytest.fixture
def slow_prompts(cluster: Cluster) -> Iterator[None]:
    cluster.ollama.answer = SLOW
    yield
    cluster.ollama.answer = QUICK


@pytest.mark.usefixtures("slow_prompts")
@pytest.mark.parametrize("loss", [Host.power_off, Host.pull_cable])
def test_a_lost_node_costs_the_others_no_request_and_its_replicas_are_back_soon(
    cluster: Cluster, loss: Callable[[Host], None]
) -> None:
    carrying, clips = serving(cluster), cluster.running("ClipDeployment")
    expendable = [host for host in carrying if set(clips) - {host.address}]
    lost = max(expendable, key=lambda host: host.address in clips)
    others = [host for host in carrying if host is not lost]
    cluster.add(cpus=CPUS, gpus=[1])
    with ExitStack() as stack:
        surviving = crowds(others, stack)
        assert all(answered(crowd, 5) for crowd in surviving)
        loss(lost)
        moving = Moving(cluster, lost)
        assert soon(moving.all_run, FAILOVER_LIMIT_S), cluster.state()
        assert soon(lambda: cluster.state()["status"] == "RUNNING"), cluster.state()
        assert all(answered(crowd, 5) for crowd in surviving)
    slowest_s = max(outcome.took_s for crowd in surviving for outcome in crowd.outcomes)
    print(f"{loss.__name__}: slowest answer {slowest_s:.1f} s; back after s, 0 where none was lost: {moving.back_s}")  # noqa: T201 - pytest -rP shows it
    assert [crowd.failures for crowd in surviving] == [[]] * len(surviving)


def test_a_node_that_was_cut_off_joins_again_once_ray_is_started_anew(cluster: Cluster) -> None:
    (cut_off,) = (host for host in cluster.hosts.hosts if host.unplugged)
    with ExitStack() as stack:
        surviving = crowds(serving(cluster), stack)
        cut_off.plug_in()
        assert soon(lambda: not cut_off.runs("raylet")), "Ray goes on, on a node that the head has given up"
        cluster.hosts.start_ray(cut_off, cpus=CPUS, gpus=1)
        assert soon(lambda: cluster.counts(cut_off))
        assert all(answered(crowd, 5) for crowd in surviving)
    assert [crowd.failures for crowd in surviving] == [[]] * len(surviving)


@pytest.mark.usefixtures("slow_prompts")
def test_a_worker_that_is_asked_to_end_gives_its_replicas_away_and_finishes_what_it_has(cluster: Cluster) -> None:
    clips = cluster.running("ClipDeployment")
    leaving = next(host for host in serving(cluster) if host.address in clips)
    command = WORKER["lifecycle"]["preStop"]["exec"]["command"]
    with ExitStack() as elsewhere, ExitStack() as here:
        staying = crowds([host for host in serving(cluster) if host is not leaving], elsewhere)
        (served,) = crowds([leaving], here)
        assert all(answered(crowd, 5) for crowd in (served, *staying))
        with subprocess.Popen(leaving.inside(*command), env=cluster.environment | {"RAY_ADDRESS": HEAD_ADDRESS}) as end:
            here.close()  # Kubernetes sends nobody there any more.
            assert end.wait(READY_LIMIT_S) == 0
        assert all(len(cluster.running(name)) == count for name, count in REPLICAS.items()), cluster.state()
        leaving.power_off()
        cluster.add(cpus=CPUS, gpus=[1])
        assert all(answered(crowd, 5) for crowd in staying)
    assert [crowd.failures for crowd in (served, *staying)] == [[]] * (1 + len(staying))


def test_replicas_come_with_the_load_and_go_with_it(cluster: Cluster) -> None:
    (application,) = cluster.content["applications"]
    quick = {"upscale_delay_s": 1, "downscale_delay_s": 2, "look_back_period_s": 2, "metrics_interval_s": 1}
    for name, (target, most) in QUICK_SCALING.items():
        (entry,) = (entry for entry in application["deployments"] if entry["name"] == name)
        entry["autoscaling_config"] |= quick | {"target_ongoing_requests": target, "max_replicas": most}
    cluster.statuses.clear()
    cluster.deploy()
    # As soon as a change is taken, some have stopped and their successors have not begun.
    assert soon(lambda: len(serving(cluster)) == REPLICAS["Ingress"])
    with ExitStack() as stack:
        many = crowds(serving(cluster), stack, callers=6)
        assert soon(lambda: all(len(cluster.running(name)) == most for name, (_, most) in QUICK_SCALING.items()))
        assert all(answered(crowd, 5) for crowd in many)
    with ExitStack() as stack:
        few = crowds(serving(cluster)[:1], stack, callers=1)
        assert soon(lambda: all(len(cluster.running(name)) == REPLICAS[name] for name in QUICK_SCALING))
    assert [crowd.failures for crowd in (*many, *few)] == [[]] * len((*many, *few))
    assert set(cluster.statuses) <= IN_ORDER


@pytest.mark.skipif(REDIS is None, reason="needs redis-server")
def test_a_lost_head_costs_no_request_and_takes_its_state_up_again(cluster: Cluster) -> None:
    with ExitStack() as stack:
        workers = crowds(serving(cluster), stack)
        assert all(answered(crowd, 5) for crowd in workers)
        cluster.head.power_off()
        time.sleep(HEADLESS_S)
        assert all(answered(crowd, 5) for crowd in workers)
        cluster.head.power_on()
        cluster.hosts.start_ray(cluster.head, cpus=0, gpus=0)
        # More, where these callers are load enough: the scaling of the test before still holds.
        assert soon(lambda: all(len(cluster.running(name)) >= count for name, count in REPLICAS.items()))
        assert soon(lambda: cluster.state()["status"] == "RUNNING"), cluster.state()
        assert all(answered(crowd, 5) for crowd in workers)
    assert [crowd.failures for crowd in workers] == [[]] * len(workers)
