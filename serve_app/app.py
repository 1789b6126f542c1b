"""The composition: `serve_app.app:build` is the one import path that every Serve config names."""

import os
from collections.abc import Mapping
from typing import Any

import ray
from ray import serve
from ray.serve import Application

from deployments.clip.deployment import ClipDeployment
from deployments.clip.labels import load_labels
from deployments.clip.settings import ClipSettings, ClipUserConfig
from deployments.ollama.deployment import OllamaDeployment
from serve_app.ingress import Ingress
from serve_app.settings import Settings, load_settings

GPU_SHARE = 0.5
"""Of a GPU that Ray knows of. A scheduling number: Serve configs override it in `ray_actor_options`."""


def build(args: Mapping[str, Any]) -> Application:
    """Compose ingress, CLIP and Ollama from a config's `args` and the environment.

    What is set here is what suits one machine with whatever it has; a Serve config overrides any of it per deployment.

    Raises:
        SettingsError: an argument, an environment variable or the label file is wrong; the sentence names it.
    """
    settings = load_settings(args, os.environ)
    clip = serve.deployment(
        # Above what the batcher lets wait and run, so that it refuses first and a status question still gets through.
        max_ongoing_requests=settings.clip.max_waiting + 2 * ClipUserConfig().max_batch_size,
        user_config=ClipUserConfig().model_dump(),
        ray_actor_options={"num_cpus": 0, "num_gpus": _gpu_share(settings.clip)},
    )(ClipDeployment)
    ollama = serve.deployment(
        # Above what may run and wait for Ollama, for the same reason.
        max_ongoing_requests=2 * (settings.ollama.max_parallel + settings.ollama.max_waiting),
        ray_actor_options={"num_cpus": 0},
    )(OllamaDeployment)
    ingress = serve.deployment(
        max_ongoing_requests=_ingress_concurrency(settings),
        max_queued_requests=_ingress_concurrency(settings),
        ray_actor_options={"num_cpus": 0},
    )(Ingress)
    return ingress.bind(
        clip.bind(settings.clip, load_labels(settings.clip.labels_file), settings.require_clip),
        ollama.bind(settings.ollama, settings.require_ollama),
        settings,
    )


def _gpu_share(settings: ClipSettings) -> float:
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    wants_gpu = settings.device == "cuda" or (settings.device == "auto" and resources.get("GPU", 0) > 0)
    return GPU_SHARE if wants_gpu else 0


def _ingress_concurrency(settings: Settings) -> int:
    """Everything that may wait or run behind one ingress replica; each holds an upload of at most 20 MB."""
    return settings.clip.max_waiting + settings.ollama.max_waiting + ClipUserConfig().max_batch_size
