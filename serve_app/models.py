"""What the servers have, as one list of models."""

from __future__ import annotations

from collections.abc import Sequence

from deployments.ollama.settings import OllamaSettings
from deployments.types import HostModels
from serve_app.schemas import ModelEntry, ModelHost, ModelsAnswer


def models_answer(settings: OllamaSettings, hosts: Sequence[HostModels]) -> ModelsAnswer:
    """Join the servers' lists: each model once, with where it is; of differing facts the best holds."""
    entries: dict[str, ModelEntry] = {}
    for host in hosts:
        for held in host.models:
            can = None if held.capabilities is None else list(held.capabilities)
            entry = entries.setdefault(
                held.name,
                ModelEntry(
                    name=held.name, capabilities=can, loaded=False, gpu_share=None, size_bytes=held.size_bytes, hosts=[]
                ),
            )
            entry.hosts.append(host.host)
            if entry.capabilities is None:
                entry.capabilities = can
            if held.gpu_share is not None:
                entry.loaded, entry.gpu_share = True, max(entry.gpu_share or 0.0, held.gpu_share)
    return ModelsAnswer(
        default=settings.model,
        allowed=list(settings.models),
        models=list(entries.values()),
        hosts=[ModelHost(host=h.host, version=h.version, reason=h.reason, remedy=h.remedy) for h in hosts],
    )
