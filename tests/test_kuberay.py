"""configs/kuberay.yaml, by a small model of what Kubernetes and KubeRay do with it.

It stands for what was seen on a real API server with KubeRay's operator; how the config behaves on nodes that join one
after another, with this file's own environment and commands, is tried in tests/cluster.
"""

from __future__ import annotations

import copy
import re
import shlex
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from serve_app.cli.ray_env import FLAGS
from serve_app.middleware.auth import ApiKeys
from serve_app.settings import load_settings

ROOT = Path(__file__).parents[1]
CLUSTER_TEXT = (ROOT / "configs/cluster.yaml").read_text()
TEXT = (ROOT / "configs/kuberay.yaml").read_text()
OBJECTS = {(part["kind"], part["metadata"]["name"]): part for part in yaml.safe_load_all(TEXT)}
SERVICE: dict[str, Any] = OBJECTS["RayService", "image-analyzer"]["spec"]
CONFIG: dict[str, Any] = yaml.safe_load(SERVICE["serveConfigV2"])
(APPLICATION,) = CONFIG["applications"]
DEPLOYMENTS: dict[str, dict[str, Any]] = {one["name"]: one for one in APPLICATION["deployments"]}
RAY_CLUSTER: dict[str, Any] = SERVICE["rayClusterConfig"]
HEAD: dict[str, Any] = RAY_CLUSTER["headGroupSpec"]
GROUPS: dict[str, dict[str, Any]] = {one["groupName"]: one for one in RAY_CLUSTER["workerGroupSpecs"]}
RAY_PODS = {"head": HEAD["template"], **{name: group["template"] for name, group in GROUPS.items()}}
PODS: dict[str, dict[str, Any]] = RAY_PODS | {
    f"{kind} {name}": part["spec"]["template"]
    for (kind, name), part in OBJECTS.items()
    if kind in ("StatefulSet", "Job")
}

EVERYWHERE = ("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "RAY_USAGE_STATS_ENABLED", "HF_HUB_DISABLE_TELEMETRY")
"""Of the flags that the command sets; the others are for a machine that Ollama shares."""


def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["spec"]["containers"]
    return dict(only)


def environment(pod: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container(pod)["env"]}


def ports(pod: dict[str, Any]) -> dict[str, int]:
    return {one["name"]: one["containerPort"] for one in container(pod).get("ports", ())}


def selects(selector: dict[str, Any], pod: dict[str, Any]) -> bool:
    return set(selector["matchLabels"].items()) <= set(pod["metadata"]["labels"].items())


def replicas(name: str, bound: str) -> int:
    entry = DEPLOYMENTS[name]
    return int(entry.get("autoscaling_config", {}).get(f"{bound}_replicas", entry.get("num_replicas")))


def per_node(name: str, group: dict[str, Any]) -> int:
    """Give how many replicas of a deployment alone a worker of a group has room for."""
    options = DEPLOYMENTS[name]["ray_actor_options"]
    limits = container(group["template"])["resources"]["limits"]
    has = {"num_cpus": int(group["rayStartParams"]["num-cpus"]), "num_gpus": int(limits.get("nvidia.com/gpu", 0))}
    rooms = [int(has[resource] // Fraction(str(asked))) for resource, asked in options.items() if asked]
    return int(min(*rooms, DEPLOYMENTS[name].get("max_replicas_per_node", max(rooms))))


def test_it_deploys_the_cluster_s_config_but_for_where_keys_and_ollama_are() -> None:
    ours, theirs = copy.deepcopy(CONFIG), yaml.safe_load(CLUSTER_TEXT)
    args = ours["applications"][0]["args"]
    assert args["access"].pop("keys_file")
    args["ollama"]["hosts"] = theirs["applications"][0]["args"]["ollama"]["hosts"]
    assert ours == theirs


def test_every_node_runs_the_ray_that_is_pinned_from_one_image_in_one_environment() -> None:
    assert RAY_CLUSTER["rayVersion"] == ray.__version__
    assert len({container(pod)["image"] for pod in RAY_PODS.values()}) == 1
    assert all(environment(pod) == environment(HEAD["template"]) for pod in RAY_PODS.values())
    assert {name: environment(HEAD["template"])[name] for name in EVERYWHERE} == {
        name: FLAGS[name] for name in EVERYWHERE
    }


def test_the_environment_is_the_one_that_the_operators_page_exports_and_losses_are_noticed_as_the_config_says() -> None:
    words = {word.strip("\\`") for word in (ROOT / "docs/deploy.md").read_text().split()}
    exported = dict(
        word.split("=", 1) for word in words if re.match(r"(RAY_health|RAY_SERVE_HTTP|RAY_USAGE|HF_HUB)\w+=", word)
    )
    assert exported.items() <= environment(HEAD["template"]).items()
    named = dict(word.split("=", 1) for word in CLUSTER_TEXT.split() if word.startswith("RAY_health"))
    assert len(named) == 4
    assert named.items() <= exported.items()


def test_kuberay_makes_the_service_of_the_head_s_ports() -> None:
    assert ports(HEAD["template"])["serve"] == CONFIG["http_options"]["port"]


def test_metrics_are_at_one_port_everywhere() -> None:
    for group in (HEAD, *GROUPS.values()):
        assert ports(group["template"])["metrics"] == int(group["rayStartParams"]["metrics-export-port"]) == 8080


def test_the_secret_that_its_head_says_to_make_holds_what_is_asked_for_and_keys_that_are_taken(tmp_path: Path) -> None:
    asked = re.findall(r"secretKeyRef: *\{name: ([\w-]+), key: ([\w-]+)", TEXT)
    assert len(asked) == TEXT.count("secretKeyRef")
    lines = [line.removeprefix("#").strip() for line in TEXT.splitlines() if line.startswith("#   ")]
    (made,) = (shlex.split(line) for line in lines if line.startswith("kubectl create secret"))
    keys = {word.split("=")[1] for word in made if word.startswith(("--from-file", "--from-literal"))}
    assert {name for name, _ in asked} == {made[made.index("generic") + 1]}
    (making,) = (line for line in lines if line.startswith("openssl"))
    subprocess.run(["bash", "-c", making], cwd=tmp_path, check=True)  # noqa: S607
    assert ApiKeys(tmp_path / "api-keys", {}).required
    assert {key for _, key in asked} | {"api-keys"} == keys


@pytest.mark.parametrize("pod", RAY_PODS.values(), ids=RAY_PODS)
def test_the_keys_lie_where_the_config_looks_for_them_and_a_changed_secret_reaches_them(pod: dict[str, Any]) -> None:
    file = Path(load_settings(APPLICATION["args"], {}).access.keys_file or "")
    (mount,) = (one for one in container(pod)["volumeMounts"] if Path(one["mountPath"]) == file.parent)
    assert "subPath" not in mount
    (volume,) = (one for one in pod["spec"]["volumes"] if one["name"] == mount["name"])
    assert [item["path"] for item in volume["secret"]["items"]] == [file.name]
    assert not any("KEYS" in name for name in environment(pod))


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_a_pod_may_do_nothing_but_its_work(pod: dict[str, Any]) -> None:
    held, own = pod["spec"]["securityContext"], container(pod)["securityContext"]
    assert held["runAsNonRoot"]
    assert held["runAsUser"]
    assert held["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounted = {one["name"] for one in container(pod)["volumeMounts"]}
    assert {one["name"] for one in pod["spec"].get("volumes", ())} <= mounted


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_a_pod_with_a_gpu_goes_to_nodes_that_are_kept_for_those(pod: dict[str, Any]) -> None:
    tolerated = {one["key"] for one in pod["spec"].get("tolerations", ())}
    assert ("nvidia.com/gpu" in container(pod)["resources"]["limits"]) == ("nvidia.com/gpu" in tolerated)


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_requests_fit_and_memory_is_bounded(pod: dict[str, Any]) -> None:
    resources = container(pod)["resources"]
    assert {"cpu", "memory"} <= set(resources["requests"])
    assert "memory" in resources["limits"]


@pytest.mark.parametrize("name", GROUPS)
def test_ray_gives_away_no_more_than_the_pod_has(name: str) -> None:
    group = GROUPS[name]
    worker = container(group["template"])
    assert int(group["rayStartParams"]["num-cpus"]) <= int(worker["resources"]["requests"]["cpu"])
    (shared,) = (one["emptyDir"] for one in group["template"]["spec"]["volumes"] if one["name"] == "shared-memory")
    assert int(group["rayStartParams"]["object-store-memory"]) < 2**30
    assert shared["sizeLimit"] == "1Gi"


def test_what_shares_a_worker_fits_on_it() -> None:
    for group in GROUPS.values():
        together = [(DEPLOYMENTS[name]["ray_actor_options"]["num_cpus"], per_node(name, group)) for name in DEPLOYMENTS]
        placed = {"ClipDeployment": per_node("ClipDeployment", group), "Ingress": 1, "OllamaDeployment": 1}
        asked = sum(DEPLOYMENTS[name]["ray_actor_options"]["num_cpus"] * count for name, count in placed.items())
        assert asked <= int(group["rayStartParams"]["num-cpus"]), together


def test_as_few_replicas_as_there_may_be_are_on_every_worker_whichever_came_first() -> None:
    fewest = {name: group["minReplicas"] for name, group in GROUPS.items()}
    assert fewest == {name: group["replicas"] for name, group in GROUPS.items()}
    # One more than fit on all but one of the nodes is on each of them.
    on_gpus = [per_node("ClipDeployment", GROUPS["gpu"])] * (fewest["gpu"] - 1)
    assert fewest["gpu"] >= 2
    assert replicas("ClipDeployment", "min") > sum(on_gpus)
    everywhere = [per_node("Ingress", group) for name, group in GROUPS.items() for _ in range(fewest[name])]
    assert sum(everywhere) >= replicas("Ingress", "min") > sum(sorted(everywhere)[1:])
    assert DEPLOYMENTS["OllamaDeployment"]["max_replicas_per_node"] == 1


def test_a_worker_has_no_place_for_the_new_beside_the_old_and_an_update_asks_for_none() -> None:
    for entry in DEPLOYMENTS.values():
        if "max_replicas_per_node" in entry:
            assert entry.get("max_surge_percent", 0) == 0


def test_as_many_replicas_as_there_may_be_find_workers_and_those_come() -> None:
    assert RAY_CLUSTER["enableInTreeAutoscaling"]
    gpu, cpu = GROUPS["gpu"], GROUPS["cpu"]
    assert gpu["maxReplicas"] * per_node("ClipDeployment", gpu) >= replicas("ClipDeployment", "max")
    workers = gpu["minReplicas"] * per_node("Ingress", gpu) + cpu["maxReplicas"] * per_node("Ingress", cpu)
    assert workers >= replicas("Ingress", "max")


def test_a_drain_takes_one_of_the_workers_with_a_gpu_at_a_time_and_is_never_held_up() -> None:
    budget = OBJECTS["PodDisruptionBudget", "image-analyzer"]["spec"]
    chosen = [name for name, pod in RAY_PODS.items() if selects(budget["selector"], pod)]
    assert chosen == ["gpu"]
    # A RayCluster has no scale, so that only a number of those that stay can be counted.
    assert GROUPS["gpu"]["minReplicas"] - budget["minAvailable"] == 1
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@pytest.mark.parametrize("name", GROUPS)
def test_a_pod_stands_behind_the_service_while_it_takes_pictures_and_ends_after_all_that_it_serves(name: str) -> None:
    pod = GROUPS[name]["template"]
    worker, port = container(pod), CONFIG["http_options"]["port"]
    probed = re.findall(r"http://127\.0\.0\.1:(\d+)(\S+)", worker["readinessProbe"]["exec"]["command"][-1])
    assert probed == [(str(port), "/-/healthz"), (str(port), "/api/images/ready")]
    assert port in ports(pod).values()
    longest_s = max(one["graceful_shutdown_timeout_s"] for one in DEPLOYMENTS.values())
    assert pod["spec"]["terminationGracePeriodSeconds"] > longest_s


def ways_in(name: str) -> Iterator[tuple[str, list[Any], set[int]]]:
    """Give each pod that a policy of this name is about, with whom it lets in to which ports."""
    policy = OBJECTS["NetworkPolicy", name]["spec"]
    for pod_name, pod in PODS.items():
        if selects(policy["podSelector"], pod):
            for rule in policy["ingress"]:
                yield pod_name, rule.get("from", []), {one["port"] for one in rule.get("ports", ())}


def test_strangers_reach_pictures_and_nothing_else() -> None:
    guarded = {pod for name in ("image-analyzer", "ollama", "redis") for pod, _, _ in ways_in(name)}
    assert guarded == set(PODS) - {pod for pod in PODS if pod.startswith("Job")}
    open_to_all = {
        (pod, *at) for name in ("image-analyzer", "ollama", "redis") for pod, who, at in ways_in(name) if not who
    }
    assert open_to_all == {(pod, CONFIG["http_options"]["port"]) for pod in RAY_PODS}


def test_each_ollama_server_that_is_asked_is_there_and_is_told_to_fetch_the_model() -> None:
    servers, door = OBJECTS["StatefulSet", "ollama"]["spec"], OBJECTS["Service", "ollama"]["spec"]
    assert servers["serviceName"] == "ollama"
    assert door["clusterIP"] == "None"
    assert selects({"matchLabels": door["selector"]}, servers["template"])
    names = [f"ollama-{number}.ollama" for number in range(servers["replicas"])]
    assert APPLICATION["args"]["ollama"]["hosts"] == [f"http://{name}:{door['ports'][0]['port']}" for name in names]
    assert "OLLAMA_HOST" not in environment(HEAD["template"])
    settings = load_settings(APPLICATION["args"], {}).ollama
    assert settings.keep_alive == -1
    sent = settings.max_parallel * DEPLOYMENTS["OllamaDeployment"]["num_replicas"]
    assert int(environment(servers["template"])["OLLAMA_NUM_PARALLEL"]) == sent
    # A Job cannot be changed, so that its name must tell what it does; and it goes by itself.
    ((job, told),) = ((name, part["spec"]) for (kind, name), part in OBJECTS.items() if kind == "Job")
    assert job == f"ollama-pull-{re.sub(r'[^a-z0-9]+', '-', settings.tagged_model)}"
    assert told["ttlSecondsAfterFinished"]
    assert environment(told["template"])["MODEL"] == settings.tagged_model
    pulling = container(told["template"])["command"]
    stood_in = 'ollama() { echo "$OLLAMA_HOST $*"; }; '
    said = subprocess.run(
        [*pulling[:-1], stood_in + pulling[-1]], env={"MODEL": "m"}, capture_output=True, text=True, check=True
    ).stdout
    assert said.split("\n")[:-1] == [f"http://{name}:11434 pull m" for name in names]


def test_redis_is_where_the_head_looks_for_it() -> None:
    address, port = RAY_CLUSTER["gcsFaultToleranceOptions"]["redisAddress"].split(":")
    door = OBJECTS["Service", address]["spec"]
    assert int(port) in {one["port"] for one in door["ports"]}
    assert selects({"matchLabels": door["selector"]}, OBJECTS["StatefulSet", address]["spec"]["template"])
