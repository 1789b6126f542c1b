"""Fetching the model onto a server that lacks it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from deployments.ollama.client import OllamaClient
from deployments.ollama.failures import OllamaFailure


class ModelPull:
    """Starts a pull when told that the model is missing, and can say how far it is.

    A pull that failed is told with its reason and started again by the next `start`; Ollama resumes where it
    stopped.
    """

    def __init__(self, client: OllamaClient, model: str) -> None:
        self._client = client
        self._model = model
        self._task: asyncio.Task[None] | None = None
        self._percent = 0
        self._last_failure = ""

    @property
    def running(self) -> bool:
        """Whether the server is fetching now."""
        return self._task is not None and not self._task.done()

    @property
    def percent(self) -> int:
        """How much of the layers known so far is there, 0 to 100."""
        return self._percent

    def start(self) -> None:
        """Start fetching, unless that is under way."""
        if not self.running:
            self._percent = 0
            self._task = asyncio.create_task(self._run())

    def sentence(self) -> str:
        """Say for a person how it stands."""
        told = f"Ollama is pulling {self._model} ({self._percent} %)"
        return f"{told} again, the last try failed: {self._last_failure}" if self._last_failure else f"{told}."

    async def close(self) -> None:
        """Stop fetching; what the server has so far it keeps."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            async with aclosing(self._client.pull()) as progress:
                async for percent in progress:
                    self._percent = percent
        except OllamaFailure as failure:
            self._last_failure = failure.reason
        else:
            self._last_failure = ""
