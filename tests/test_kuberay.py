"""configs/kuberay.yaml: it deploys configs/cluster.yaml, and its parts refer to one another as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
import yaml

from serve_app.cli.ray_env import FLAGS
from tests.support.in_process import HEALTH

ROOT = Path(__file__).parents[1]
CLUSTER = yaml.safe_load((ROOT / "configs/cluster.yaml").read_text())
OBJECTS = {
    (part["kind"], part["metadata"]["name"]): part
    for part in yaml.safe_load_all((ROOT / "configs/kuberay.yaml").read_text())
}
SERVICE: dict[str, Any] = OBJECTS["RayService", "image-analyzer"]["spec"]
RAY_CLUSTER: dict[str, Any] = SERVICE["rayClusterConfig"]
HEAD = RAY_CLUSTER["headGroupSpec"]
(WORKERS,) = RAY_CLUSTER["workerGroupSpecs"]


def deployment(name: str) -> dict[str, Any]:
    (found,) = (one for one in CLUSTER["applications"][0]["deployments"] if one["name"] == name)
    return dict(found)


def environment_of(group: dict[str, Any]) -> dict[str, Any]:
    (container,) = group["template"]["spec"]["containers"]
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


def secret_keys(content: Any) -> Iterator[tuple[str, str]]:
    if isinstance(content, dict):
        if "secretKeyRef" in content:
            yield content["secretKeyRef"]["name"], content["secretKeyRef"]["key"]
        content = list(content.values())
    if isinstance(content, list):
        for inner in content:
            yield from secret_keys(inner)


def test_it_serves_the_cluster_s_config() -> None:
    assert yaml.safe_load(SERVICE["serveConfigV2"]) == CLUSTER


def test_it_runs_the_ray_that_is_pinned() -> None:
    assert RAY_CLUSTER["rayVersion"] == ray.__version__


def test_every_node_runs_one_image_in_one_environment() -> None:
    images = {group["template"]["spec"]["containers"][0]["image"] for group in (HEAD, WORKERS)}
    assert len(images) == 1
    assert environment_of(HEAD) == environment_of(WORKERS)


def test_the_environment_is_the_one_that_the_operators_page_exports() -> None:
    exported = {
        word.split("=")[0].lstrip("`")
        for word in (ROOT / "docs/deploy.md").read_text().split()
        if word.startswith(("RAY_health", "IMAGE_ANALYZER_", "OLLAMA_HOST=", "RAY_SERVE_HTTP_PROXY"))
    }
    environment = environment_of(HEAD)
    assert exported <= set(environment)
    name = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
    assert environment[name] == FLAGS[name]


def test_the_ray_token_and_the_head_s_state_are_kept() -> None:
    assert RAY_CLUSTER["authOptions"] == {"mode": "token"}
    address, port = RAY_CLUSTER["gcsFaultToleranceOptions"]["redisAddress"].split(":")
    assert int(port) in {one["port"] for one in OBJECTS["Service", address]["spec"]["ports"]}


def test_the_secrets_asked_for_are_those_that_its_head_says_to_make() -> None:
    text = (ROOT / "configs/kuberay.yaml").read_text()
    keys = set(secret_keys(list(OBJECTS.values())))
    assert {name for name, _ in keys} == {"image-analyzer"}
    assert all(f"--from-literal={key}=" in text for _, key in keys)


def test_a_pod_stands_behind_the_service_while_pictures_are_answered() -> None:
    (container,) = WORKERS["template"]["spec"]["containers"]
    port = CLUSTER["http_options"]["port"]
    assert container["readinessProbe"]["httpGet"] == {"path": HEALTH, "port": port}
    assert port in {one["containerPort"] for one in container["ports"]}
    assert HEAD["rayStartParams"]["num-cpus"] == "0"
    assert SERVICE["excludeHeadPodFromServeSvc"] is True


def test_a_pod_ends_after_all_that_it_serves() -> None:
    longest_s = max(one["graceful_shutdown_timeout_s"] for one in CLUSTER["applications"][0]["deployments"])
    assert WORKERS["template"]["spec"]["terminationGracePeriodSeconds"] > longest_s


def test_an_ingress_fits_on_every_worker_and_all_clip_replicas_on_their_gpus() -> None:
    ingress, clip = deployment("Ingress"), deployment("ClipDeployment")
    assert WORKERS["replicas"] == WORKERS["minReplicas"] == ingress["autoscaling_config"]["min_replicas"]
    gpus = clip["autoscaling_config"]["max_replicas"] * clip["ray_actor_options"]["num_gpus"]
    (container,) = WORKERS["template"]["spec"]["containers"]
    assert WORKERS["maxReplicas"] * int(container["resources"]["limits"]["nvidia.com/gpu"]) >= gpus


def test_nodes_are_drained_one_at_a_time() -> None:
    budget = OBJECTS["PodDisruptionBudget", "image-analyzer"]["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"] == WORKERS["template"]["metadata"]["labels"]


def test_ollama_has_a_gpu_a_volume_and_a_service_by_the_name_that_the_config_asks() -> None:
    pod = OBJECTS["Deployment", "ollama"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    (volume,) = pod["spec"]["volumes"]
    assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in OBJECTS
    service = OBJECTS["Service", "ollama"]["spec"]
    assert service["selector"] == pod["metadata"]["labels"]
    address = f"http://ollama:{service['ports'][0]['port']}"
    assert CLUSTER["applications"][0]["args"]["ollama"]["hosts"] == [address]
    assert environment_of(HEAD)["OLLAMA_HOST"] == address


def test_ollama_writes_as_many_at_once_as_it_is_sent() -> None:
    (container,) = OBJECTS["Deployment", "ollama"]["spec"]["template"]["spec"]["containers"]
    parallel = {one["name"]: one["value"] for one in container["env"]}["OLLAMA_NUM_PARALLEL"]
    ours = CLUSTER["applications"][0]["args"]["ollama"]["max_parallel"]
    assert int(parallel) == ours * deployment("OllamaDeployment")["num_replicas"]
