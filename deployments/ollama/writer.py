"""Writes the prompt for one picture: Ollama's words as they come or, where it cannot, composed ones."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing

import httpx

from deployments.errors import AnalyzerError, DeadlinePassed, OllamaUnavailable
from deployments.messages import (
    ComponentStatus,
    PromptComplete,
    PromptDelta,
    PromptEvent,
    PromptRequest,
    PromptRestart,
)
from deployments.ollama.client import OllamaClient
from deployments.ollama.coalescer import coalesce
from deployments.ollama.composer import compose, shortcomings
from deployments.ollama.failures import ModelMissing, OllamaFailure, ServerFailed, TookTooLong
from deployments.ollama.prompts import build_messages
from deployments.ollama.pull import ModelPull
from deployments.ollama.settings import OllamaSettings
from deployments.ollama.turnstile import Turnstile

HEADING = re.compile(r"\A(?:image[ -])?prompt\s*:\s*", re.IGNORECASE)
QUOTES = ('""', "''", "“”", "„“", "«»", "「」")


class PromptWriter:
    """Every request asks Ollama anew: a refused connection costs a millisecond, and it is found when it is back.

    Args:
        settings: address, model, sampling and limits.
        required: raise where Ollama cannot write, in place of composing.
        transport: replaces the network in tests.
    """

    def __init__(
        self,
        settings: OllamaSettings,
        *,
        required: bool,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._settings = settings
        self._required = required
        self._client = OllamaClient(settings, transport)
        self._pull = ModelPull(self._client, settings.model)
        self._turnstile = Turnstile(
            max_inside=settings.max_parallel,
            max_waiting=settings.max_waiting,
            retry_after_s=settings.retry_after_s,
        )

    async def write(self, request: PromptRequest) -> AsyncGenerator[PromptEvent, None]:
        """Stream the prompt: pieces, perhaps a restart and other pieces, then the whole.

        The whole text is the pieces after the last restart joined, less the heading, quotation marks and blanks
        that a model may put around its answer. Close the generator (`contextlib.aclosing`) or cancel its reader,
        and Ollama stops.

        Raises:
            QueueFull: as many requests wait as may wait.
            OllamaUnavailable: Ollama is required and cannot write.
            DeadlinePassed: Ollama is required and took too long.
        """
        text = ""
        try:
            async with aclosing(coalesce(self._tokens(request), self._flush_interval_s)) as pieces:
                async for piece in pieces:
                    text += piece
                    yield PromptDelta(piece)
            prompt = _unwrapped(text)
            if not prompt:
                raise ServerFailed("Ollama's answer was empty.", "Try again, or try another model.")
        except OllamaFailure as failure:
            told = self._answered_by_pull(failure)
            if self._required:
                raise self._public(told) from failure
        else:
            yield PromptComplete(prompt, "ollama", self._cut(text))
            return
        if text:
            yield PromptRestart(str(told))
        composed = compose(request)
        yield PromptDelta(composed)
        yield PromptComplete(composed, "template", (str(told), *shortcomings(request)))

    async def status(self) -> ComponentStatus:
        """Ask the server how it stands now; a model found missing is pulled if `auto_pull` is set."""
        facts: dict[str, str | int | float] = {
            "model": self._settings.tagged_model,
            "host": self._settings.host,
            "writing": self._turnstile.inside,
            "waiting": self._turnstile.waiting,
        }
        try:
            await self._client.check()
        except OllamaFailure as failure:
            told = self._answered_by_pull(failure)
        else:
            return ComponentStatus("ready", "ollama", facts=facts)
        if self._pull.running:
            facts["pull_percent"] = self._pull.percent
        if self._required:
            return ComponentStatus("unavailable", "none", told.reason, told.remedy, facts)
        return ComponentStatus("fallback", "template", told.reason, told.remedy, facts)

    async def close(self) -> None:
        """Stop a pull and close the client."""
        await self._pull.close()
        await self._client.close()

    async def _tokens(self, request: PromptRequest) -> AsyncGenerator[str, None]:
        deadline_s = asyncio.get_running_loop().time() + self._settings.total_timeout_s
        messages, options = build_messages(request), self._settings.sampling(deep=request.deep_thinking)
        # The line needs no limit of its own: whoever is ahead in it has the earlier deadline.
        async with (
            self._turnstile.turn(),
            aclosing(self._client.chat(messages, options, deadline_s=deadline_s)) as tokens,
        ):
            async for token in tokens:
                yield token

    def _flush_interval_s(self) -> float:
        return max(self._settings.flush_interval_s, self._turnstile.inside / self._settings.max_pieces_per_s)

    def _answered_by_pull(self, failure: OllamaFailure) -> OllamaFailure:
        if not (self._settings.auto_pull and isinstance(failure, ModelMissing)):
            return failure
        self._pull.start()
        return ModelMissing(self._pull.sentence(), "Wait until it is there.")

    def _public(self, failure: OllamaFailure) -> AnalyzerError:
        kind = DeadlinePassed if isinstance(failure, TookTooLong) else OllamaUnavailable
        return kind(str(failure), retry_after_s=self._settings.retry_after_s)

    def _cut(self, text: str) -> tuple[str, ...]:
        limit_chars = self._settings.max_prompt_chars
        return (f"The prompt was cut at {limit_chars} characters.",) if len(text) == limit_chars else ()


def _unwrapped(text: str) -> str:
    text = HEADING.sub("", text.strip())
    for pair in QUOTES:
        opening, closing = pair[0], pair[1]
        inner = text[1:-1]
        if text.startswith(opening) and text.endswith(closing) and closing not in inner:
            return inner.strip()
    return text
