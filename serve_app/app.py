"""The composition: `serve_app.app:build` is the one import path that every Serve config names."""

import os
from collections.abc import Mapping
from typing import Any

import ray
from ray import serve
from ray.serve import Application

from deployments.clip.deployment import ClipDeployment
from deployments.clip.labels import load_labels
from deployments.clip.settings import MAX_BATCH_SIZE, ClipUserConfig, Device
from deployments.clip.vocabulary.phrases import load_vocabulary
from deployments.errors import SettingsError
from deployments.ollama.deployment import OllamaDeployment
from deployments.ollama.targets import OllamaUserConfig, load_targets, with_default
from serve_app.ingress import Ingress
from serve_app.settings import Settings, load_settings

GPU_SHARE = 0.5
"""Of a GPU that Ray knows of. A scheduling number: Serve configs override it in `ray_actor_options`."""

FIRST_THE_NEW = 100
"""`max_surge_percent` by which old replicas stop once new ones are there, so that a change costs no request, and one
that cannot work nothing at all. A full GPU has no room for both."""

FINISHING_MARGIN_S = 10.0
"""By how much a replica that is replaced may outlive the longest request in its hands."""

MOST_INGRESSES = 4
"""Where the config does not say: one interpreter cannot keep two cores busy, and each takes 90 MiB at rest."""


def build(args: Mapping[str, Any]) -> Application:
    """Compose ingress, CLIP and Ollama from a config's `args` and the environment.

    What is set here is what suits one machine with whatever it has; a Serve config overrides any of it per deployment.

    Raises:
        SettingsError: an argument, an environment variable, a label or a target is wrong; the sentence names it.
    """
    return compose(load_settings(args, os.environ), ClipDeployment)


def compose(settings: Settings, clip_deployment: type[ClipDeployment]) -> Application:
    """Bind the three deployments to one another.

    Raises:
        SettingsError: the label or the target file is wrong, or a GPU is demanded that Ray does not know of.
    """
    cluster: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    longest_s = settings.limits.upload_timeout_s + settings.limits.total_timeout_s
    gpus = gpu_share(settings.clip.device, cluster.get("GPU", 0))
    clip = serve.deployment(
        name=ClipDeployment.__name__,
        # Above what the batcher lets wait and run, so that it refuses first and a status question still gets through.
        max_ongoing_requests=settings.clip.max_waiting + 2 * MAX_BATCH_SIZE,
        user_config=ClipUserConfig().model_dump(),
        max_surge_percent=0 if gpus else FIRST_THE_NEW,
        graceful_shutdown_timeout_s=settings.limits.analysis_timeout_s + FINISHING_MARGIN_S,
        ray_actor_options={"num_cpus": 0, "num_gpus": gpus},
    )(clip_deployment)
    ollama = serve.deployment(
        user_config=OllamaUserConfig().model_dump(),
        # Above what may run and wait for Ollama, for the same reason.
        max_ongoing_requests=2 * (settings.ollama.max_writing + settings.ollama.max_waiting),
        max_surge_percent=FIRST_THE_NEW,
        graceful_shutdown_timeout_s=settings.limits.total_timeout_s + FINISHING_MARGIN_S,
        ray_actor_options={"num_cpus": 0},
    )(OllamaDeployment)
    ingress = serve.deployment(
        num_replicas=ingress_replicas(cluster.get("CPU", 1)),
        max_surge_percent=FIRST_THE_NEW,
        graceful_shutdown_timeout_s=longest_s + FINISHING_MARGIN_S,
        # Above what the application admits, so that it refuses first, as JSON and with its reason.
        max_ongoing_requests=4 * settings.limits.max_requests,
        max_queued_requests=4 * settings.limits.max_requests,
        backpressure_config={"status_code": 429, "retry_after_s": settings.limits.retry_after_s},
        ray_actor_options={"num_cpus": 0},
    )(Ingress)
    return ingress.bind(
        clip.bind(
            settings.clip,
            load_labels(settings.clip.labels_file),
            load_vocabulary(settings.clip.vocabulary),
            settings.require_clip,
        ),
        ollama.bind(
            settings.ollama,
            with_default(load_targets(settings.ollama.targets_file), settings.ollama.target),
            settings.require_ollama,
        ),
        settings,
    )


def gpu_share(device: Device, cluster_gpus: float) -> float:
    """Choose the share of a GPU to ask Ray for where the config names none.

    Raises:
        SettingsError: a GPU is demanded and Ray knows of none: the replica would wait for one for ever.
    """
    if device == "cuda" and not cluster_gpus:
        raise SettingsError(
            "clip.device is 'cuda' but Ray knows of no GPU here: install the NVIDIA driver, or set DEVICE=cpu; where "
            "GPU nodes join later, leave it 'auto' and give ClipDeployment its num_gpus in the Serve config."
        )
    return GPU_SHARE if cluster_gpus and device != "cpu" else 0


def ingress_replicas(cluster_cpus: float) -> int:
    """Choose how many take requests where the config does not say: one a core, within bounds."""
    return max(1, min(int(cluster_cpus), MOST_INGRESSES))
