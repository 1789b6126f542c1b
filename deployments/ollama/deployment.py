"""The Ollama deployment: `PromptWriter` behind a Ray Serve handle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from ray.serve import metrics

from deployments.ollama.settings import OllamaSettings
from deployments.ollama.targets import TargetSet
from deployments.ollama.writer import PromptWriter
from deployments.telemetry import Recorder, join_serve_log
from deployments.types import ComponentStatus, HostModels, PromptEvent, PromptRequest, TargetFacts


class OllamaDeployment:
    """Writes prompts for every ingress replica; a CPU proxy, no model of its own.

    Args:
        settings: the `ollama` section of the config's args.
        targets: used until `user_config` brings others.
        required: refuse requests rather than let the composer stand in.
    """

    def __init__(self, settings: OllamaSettings, targets: TargetSet, required: bool) -> None:
        join_serve_log()
        self._writer = PromptWriter(settings, required=required, targets=targets, record=Recorder(metrics))
        if settings.preload:
            self._preloading = asyncio.ensure_future(self._writer.preload())

    async def write(self, request: PromptRequest) -> AsyncGenerator[PromptEvent, None]:
        """Write a prompt, piece by piece; the caller's cancellation stops Ollama's generation."""
        # Serve awaits what is no generator yet, and closes what comes of it when the caller leaves (Ray 2.60).
        return self._writer.write(request)

    async def status(self) -> ComponentStatus:
        """Tell whether Ollama can write now and, if not, what to do."""
        return await self._writer.status()

    async def looking(self) -> tuple[str, ...]:
        """Tell which models look at pictures where a request leaves it to `auto`."""
        return await self._writer.looking()

    async def models(self) -> tuple[HostModels, ...]:
        """Tell which models each server has."""
        return await self._writer.models()

    async def targets(self) -> tuple[TargetFacts, ...]:
        """Tell which targets there are."""
        return await self._writer.targets()

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take new targets; Serve calls this at the start and at every change of `user_config`."""
        await self._writer.reconfigure(user_config)

    async def unload(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Free the servers' memory; gives the names of what was loaded, and the servers that answered."""
        return await self._writer.unload()

    async def check_health(self) -> None:
        """Look at the servers, so that the metrics tell of them while nobody asks; no restart here would mend them."""
        await self._writer.status()

    async def __del__(self) -> None:
        await self._writer.close()
