"""configs/kuberay.yaml: it deploys configs/cluster.yaml, and its parts refer to one another as they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import ray
import yaml

from serve_app.cli.ray_env import FLAGS
from tests.support.in_process import HEALTH

ROOT = Path(__file__).parents[1]
CLUSTER = yaml.safe_load((ROOT / "configs/cluster.yaml").read_text())
APPLICATION = CLUSTER["applications"][0]
DEPLOYMENTS = {one["name"]: one for one in APPLICATION["deployments"]}
TEXT = (ROOT / "configs/kuberay.yaml").read_text()
OBJECTS = {(part["kind"], part["metadata"]["name"]): part["spec"] for part in yaml.safe_load_all(TEXT)}
SERVICE: dict[str, Any] = OBJECTS["RayService", "image-analyzer"]
RAY_CLUSTER: dict[str, Any] = SERVICE["rayClusterConfig"]
HEAD, (WORKERS,) = RAY_CLUSTER["headGroupSpec"], RAY_CLUSTER["workerGroupSpecs"]
OLLAMA = OBJECTS["Deployment", "ollama"]["template"]


def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["spec"]["containers"]
    return dict(only)


def environment(pod: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container(pod)["env"]}


def test_every_node_runs_the_cluster_s_config_by_the_ray_that_is_pinned_from_one_image() -> None:
    assert yaml.safe_load(SERVICE["serveConfigV2"]) == CLUSTER
    assert RAY_CLUSTER["rayVersion"] == ray.__version__
    head, workers = HEAD["template"], WORKERS["template"]
    assert container(head)["image"] == container(workers)["image"]
    assert environment(head) == environment(workers)


def test_the_environment_is_the_one_that_the_operators_page_exports() -> None:
    told = ("RAY_health", "IMAGE_ANALYZER_", "OLLAMA_HOST=", "RAY_SERVE_HTTP_PROXY")
    words = (word.lstrip("`") for word in (ROOT / "docs/deploy.md").read_text().split())
    exported = {word.split("=")[0] for word in words if word.startswith(told)}
    assert exported <= set(environment(HEAD["template"]))
    name = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
    assert environment(HEAD["template"])[name] == FLAGS[name]


def test_the_secrets_asked_for_are_those_that_its_head_says_to_make() -> None:
    asked = re.findall(r"secretKeyRef: *\{name: ([\w-]+), key: ([\w-]+)", TEXT)
    assert len(asked) == TEXT.count("secretKeyRef")
    assert {name for name, _ in asked} == {"image-analyzer"}
    assert all(f"--from-literal={key}=" in TEXT for _, key in asked)


def test_what_is_referred_to_is_there() -> None:
    address, port = RAY_CLUSTER["gcsFaultToleranceOptions"]["redisAddress"].split(":")
    assert int(port) in {one["port"] for one in OBJECTS["Service", address]["ports"]}
    budget = OBJECTS["PodDisruptionBudget", "image-analyzer"]
    assert budget["selector"]["matchLabels"] == WORKERS["template"]["metadata"]["labels"]
    ollama = OBJECTS["Service", "ollama"]
    assert ollama["selector"] == OLLAMA["metadata"]["labels"]
    (volume,) = OLLAMA["spec"]["volumes"]
    assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in OBJECTS
    url = f"http://ollama:{ollama['ports'][0]['port']}"
    assert APPLICATION["args"]["ollama"]["hosts"] == [url] == [environment(HEAD["template"])["OLLAMA_HOST"]]


def test_a_pod_stands_behind_the_service_while_pictures_are_answered_and_ends_after_all_that_it_serves() -> None:
    worker, port = container(WORKERS["template"]), CLUSTER["http_options"]["port"]
    assert worker["readinessProbe"]["httpGet"] == {"path": HEALTH, "port": port}
    assert port in {one["containerPort"] for one in worker["ports"]}
    longest_s = max(one["graceful_shutdown_timeout_s"] for one in DEPLOYMENTS.values())
    assert WORKERS["template"]["spec"]["terminationGracePeriodSeconds"] > longest_s


def test_what_the_config_wants_fits_on_what_the_nodes_have() -> None:
    ingress, clip = DEPLOYMENTS["Ingress"], DEPLOYMENTS["ClipDeployment"]
    assert WORKERS["replicas"] == WORKERS["minReplicas"] == ingress["autoscaling_config"]["min_replicas"]
    gpus = clip["autoscaling_config"]["max_replicas"] * clip["ray_actor_options"]["num_gpus"]
    limits = container(WORKERS["template"])["resources"]["limits"]
    assert WORKERS["maxReplicas"] * int(limits["nvidia.com/gpu"]) >= gpus
    sent = APPLICATION["args"]["ollama"]["max_parallel"] * DEPLOYMENTS["OllamaDeployment"]["num_replicas"]
    assert int(environment(OLLAMA)["OLLAMA_NUM_PARALLEL"]) == sent
