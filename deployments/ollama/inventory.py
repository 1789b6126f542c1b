"""What one Ollama server has: its models, what each can, which are in memory, and its version.

Known, not guessed: from `/api/tags`, or where an older server does not tell there (before about 0.25) from `/api/show`,
once for each digest of a model. A server that tells in neither leaves it unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeVar

from pydantic import BaseModel

from deployments.ollama.failures import FailureNames, ModelUnfit, OllamaFailure
from deployments.ollama.model_names import in_full, is_same
from deployments.ollama.package import ollama
from deployments.ollama.settings import OllamaSettings
from deployments.ollama.wire import (
    THINKS,
    WRITES,
    ListedModel,
    ModelList,
    RunningList,
    RunningModel,
    ServerVersion,
    ShownModel,
)

Told = TypeVar("Told", bound=BaseModel)
FullName = tuple[str, str, str]


class Inventory:
    """Asks a server what it has; each question within `status_timeout_s`.

    Args:
        client: of the server.
        settings: the models that may be asked for, and the limit.
        failures: names what goes wrong there.
    """

    def __init__(self, client: ollama.AsyncClient, settings: OllamaSettings, failures: FailureNames) -> None:
        self._client = client
        self._failures = failures
        self._limit_s = settings.status_timeout_s
        self._shown: dict[FullName, tuple[ListedModel, ShownModel]] = {}
        self._can: dict[FullName, Sequence[str] | None] = {}
        self._lacks: set[FullName] = set()

    async def models(self) -> Sequence[ListedModel]:
        """List the models, as far as the list tells with what each can.

        Raises:
            OllamaFailure: the server is not there, failed, or took too long.
        """
        # As `list` does, whose own model of the answer leaves out what a model can (ollama 0.6.3).
        return (await self._asked("did not list its models", ModelList, "GET", "/api/tags")).models

    async def running(self) -> Sequence[RunningModel]:
        """List the models in memory. Ollama still lists one for a moment after it was unloaded.

        Raises:
            OllamaFailure: as `models`.
        """
        return (await self._asked("did not say what is loaded", RunningList, "GET", "/api/ps")).models

    async def loaded(self, model: str) -> RunningModel | None:
        """Give a model's entry among those in memory; None where it is not, or nobody tells."""
        with suppress(OllamaFailure):
            return next((running for running in await self.running() if is_same(running.model, model)), None)
        return None

    async def version(self) -> str | None:
        """Give the server's version; None where it does not tell."""
        with suppress(OllamaFailure):
            return (await self._asked("did not tell its version", ServerVersion, "GET", "/api/version")).version
        return None

    async def capabilities(self, model: ListedModel) -> Sequence[str] | None:
        """Tell what a model can, None where it is not known; older servers are asked once for each version of it."""
        if model.capabilities is not None:
            return model.capabilities
        name = in_full(model.model)
        if self._shown.get(name, (None,))[0] != model:
            with suppress(OllamaFailure):
                about = {"model": model.model}
                told = await self._asked(f"did not show {model.model}", ShownModel, "POST", "/api/show", json=about)
                self._shown[name] = (model, told)
        return self._shown[name][1].capabilities if name in self._shown else None

    async def check(self, model: str) -> None:
        """Ask whether the server is up, and holds the model, and the model writes.

        Raises:
            OllamaFailure: it is not, does not, failed, or took longer than `status_timeout_s`.
        """
        name, models = in_full(model), await self.models()
        found = next((listed for listed in models if is_same(listed.model, model)), None)
        try:
            if found is None:
                raise self._failures.missing(model, models)
            can = self._can[name] = await self.capabilities(found) or None
            if can and WRITES not in can:
                raise self._failures.unfit(model, models)
        except ModelUnfit:
            self._lacks.add(name)
            raise
        self._lacks.discard(name)

    def lacks(self, model: str) -> bool:
        """Tell whether the model was not there, or did not write, when it was last asked for."""
        return in_full(model) in self._lacks

    def known(self, model: str) -> Sequence[str] | None:
        """Tell what the model can, as far as it was told when it was last asked for; None: unknown."""
        return self._can.get(in_full(model))

    def forget(self, model: str) -> None:
        """Ask anew what the model can when that is wanted next: the server says that it is not what was known."""
        self._can.pop(in_full(model), None)
        self._shown.pop(in_full(model), None)

    async def thinks(self, model: str, deadline_s: float) -> bool:
        """Tell whether the model can think; not, where that cannot be found out by then (event loop time)."""
        return await self._able(model, THINKS, deadline_s)

    async def _able(self, model: str, capability: str, deadline_s: float) -> bool:
        if in_full(model) not in self._can:
            with suppress(OllamaFailure, TimeoutError):
                async with asyncio.timeout_at(deadline_s):
                    await self.check(model)
        return capability in (self.known(model) or ())

    async def _asked(self, slow: str, kind: type[Told], method: str, path: str, **body: Any) -> Told:
        with self._failures.named(f"{slow} within {self._limit_s:g} s"):
            async with asyncio.timeout(self._limit_s):
                answer: Told = await self._client._request(kind, method, path, **body)
                return answer
