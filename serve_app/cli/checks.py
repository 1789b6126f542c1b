"""The checks that need the service's settings: each asks what the service itself would ask, in the same way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import torch
from huggingface_hub import constants

from deployments.clip.checkpoint import choose_precision
from deployments.clip.model import choose_device
from deployments.clip.settings import ClipSettings
from deployments.clip.weights import WeightsUnavailable, announced_files, find_weights
from deployments.errors import SettingsError
from deployments.ollama.client import OllamaClient
from deployments.ollama.failures import ModelUnfit, OllamaFailure
from deployments.ollama.settings import OllamaSettings
from deployments.ollama.sight import Sight, Sights
from serve_app.cli.config import ServiceConfig, read_config, require_free_port
from serve_app.cli.doctor import Finding
from serve_app.cli.health import ask_health
from serve_app.cli.places import check_places, check_weights_cache
from serve_app.cli.ray_env import NotHere, find_haproxy

MB = 1_000_000
NEEDED_GPU_MB = 1400
"""ViT-B/32 in float16 with a batch of 16 pictures, and what CUDA itself takes; added up in configs/rtx3050.yaml."""


def examine_service(config_file: Path, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Check the machine, the config, then everything that it names."""
    yield from check_places(environment)
    try:
        config = read_config(config_file, environment)
    except SettingsError as error:
        yield Finding("Config", False, str(error), f"correct it in {config_file}, or in the environment")
        return
    labels = config.labels.count
    yield Finding("Config", True, f"{config.path}, {labels} labels in {config.settings.clip.labels_file.name}")
    yield from check_device(config.settings.clip)
    yield from check_model(config.settings.clip)
    yield from check_ollama(config.settings.ollama)
    yield check_port(config)
    yield check_mode(config.host, environment)


def check_device(
    settings: ClipSettings, gpu_memory: Callable[[], tuple[int, int]] = torch.cuda.mem_get_info
) -> Iterator[Finding]:
    """Check the device and precision that the settings come to here and, on a GPU, its memory.

    Args:
        settings: device and precision.
        gpu_memory: free and total bytes of the GPU.
    """
    try:
        device = choose_device(settings.device, gpu_assigned=True)
    except SettingsError as error:
        yield Finding("Device", False, str(error), "install the NVIDIA driver (nvidia-smi), or: export DEVICE=cpu")
        return
    precision = choose_precision(settings.precision, device)
    if device == "cpu":
        why = "" if settings.device == "cpu" else "; no CUDA GPU: CLIP runs on the CPU"
        yield Finding("Device", True, f"cpu, {precision}{why}")
        return
    yield Finding("Device", True, f"{device}, {precision}")
    yield check_gpu_memory(*gpu_memory())


def check_gpu_memory(free_bytes: int, total_bytes: int) -> Finding:
    """Check that CLIP finds room on the GPU."""
    detail = f"{free_bytes // MB} MB free of {total_bytes // MB} MB"
    if free_bytes >= NEEDED_GPU_MB * MB:
        return Finding("GPU memory", True, detail)
    return Finding(
        "GPU memory",
        False,
        f"{detail}; CLIP needs about {NEEDED_GPU_MB} MB",
        "stop what else uses it (nvidia-smi lists it), or: export DEVICE=cpu",
    )


def check_weights(settings: ClipSettings, cache_dir: Path | None = None) -> Finding:
    """Check that CLIP's weights are on disk, whole."""
    try:
        folder = find_weights(settings.model, cache_dir)
    except WeightsUnavailable as error:
        return Finding("CLIP weights", False, error.sentence, error.remedy)
    if folder is not None:
        return Finding("CLIP weights", True, f"{settings.model} in {folder}")
    return Finding(
        "CLIP weights",
        False,
        f"{settings.model} is not in the cache {cache_dir or constants.HF_HUB_CACHE}",
        "image-analyzer serve fetches them by itself where the hub is in reach; till then the stand-in answers",
    )


def check_model(
    settings: ClipSettings,
    cache_dir: Path | None = None,
    announced: Callable[[str, str], Mapping[str, int]] = announced_files,
) -> Iterator[Finding]:
    """Check the weights and where they come from; that neither is to be had is one fault."""
    weights = check_weights(settings, cache_dir)
    hub = check_hub(settings, needed=not weights.ok, announced=announced)
    if weights.ok or hub.ok:
        yield weights
        yield hub
    else:
        yield Finding(
            weights.name, False, f"{weights.detail}; {hub.detail}", f"{hub.remedy.rstrip('.')}; {weights.remedy}"
        )
    if not weights.ok:
        yield check_weights_cache(settings.model)


def check_hub(
    settings: ClipSettings,
    *,
    needed: bool,
    announced: Callable[[str, str], Mapping[str, int]] = announced_files,
) -> Finding:
    """Check that the hub is in reach and has the model; where the weights are on disk, it need not be.

    Args:
        settings: the model's name.
        needed: whether anything is still to be fetched.
        announced: asks the hub at an address for the files of a model and their sizes in bytes.
    """
    hub = constants.ENDPOINT
    if not needed:
        return Finding("Model hub", True, "not needed, the weights are here")
    try:
        files = announced(settings.model, hub)
    except WeightsUnavailable as error:
        return Finding("Model hub", False, error.sentence, error.remedy)
    size_mb = sum(files.values()) // MB
    return Finding("Model hub", True, f"{hub} has {settings.model}, {size_mb} MB")


def check_ollama(settings: OllamaSettings, transport: httpx.AsyncBaseTransport | None = None) -> Iterator[Finding]:
    """Check of each server that it answers and, if so, that it holds the model."""
    for host in settings.hosts:
        yield from _check_server(settings, host, transport)


def _check_server(settings: OllamaSettings, host: str, transport: httpx.AsyncBaseTransport | None) -> Iterator[Finding]:
    failure, version, held, sight = asyncio.run(_asked(settings, host, transport))
    if failure is not None and not isinstance(failure, ModelUnfit):
        yield Finding("Ollama", False, failure.reason, failure.remedy)
        return
    yield Finding("Ollama", True, f"{f'{version} ' if version else ''}answers at {host}")
    if failure is None:
        yield Finding("Ollama model", True, f"{settings.tagged_model}{held}")
    else:
        yield Finding("Ollama model", False, failure.reason, failure.remedy)
    if sight is not None and settings.vision_model and not sight.can:
        yield Finding("Vision", False, sight.why, sight.remedy)
    elif sight is not None:
        yield Finding("Vision", True, sight.told())


async def _asked(
    settings: OllamaSettings, host: str, transport: httpx.AsyncBaseTransport | None
) -> tuple[OllamaFailure | None, str | None, str, Sight | None]:
    """Give what is wrong, the server's version, in words what the model can and whether it is loaded, and who looks."""
    client = OllamaClient(settings, host, transport)
    try:
        await client.has.check(settings.model)
        can = ", ".join(sorted(client.has.known(settings.model) or ())) or "unknown"
        loaded = await client.has.loaded(settings.model)
        where = "not loaded" if loaded is None else f"loaded, {loaded.gpu_share:.0%} of it on a GPU"
        sight = await Sights(settings).of(client, settings.looker(""))
        return None, await client.has.version(), f"; can: {can}; {where}", sight
    except OllamaFailure as failure:
        return failure, None, "", None
    finally:
        await client.close()


def check_port(config: ServiceConfig) -> Finding:
    """Check that the service's port is free, or that the service is what has it."""
    name = f"Port {config.port}"
    try:
        require_free_port(config)
    except SettingsError as error:
        health = ask_health(config)
        if health is not None:
            return Finding(name, True, f"the service answers at {config.url}, health {health.status}")
        return Finding(name, False, str(error), f"find what uses it: lsof -i :{config.port}")
    return Finding(name, True, "free")


def check_mode(host: str, environment: Mapping[str, str]) -> Finding:
    """Tell the mode that the service runs in; plain mode is no fault, it is slower."""
    try:
        return Finding("Mode", True, f"fast, with {find_haproxy(host, environment)}")
    except NotHere as reason:
        return Finding("Mode", True, f"plain: {reason}")
