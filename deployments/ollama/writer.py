"""Writes the prompt for one picture: Ollama's words as they come or, where it cannot, composed ones."""

from __future__ import annotations

import asyncio
import functools
import logging
import re
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Self

import httpx

from deployments import telemetry
from deployments.errors import AnalyzerError, DeadlinePassed, OllamaUnavailable, QueueFull
from deployments.ollama.client import OllamaClient
from deployments.ollama.failures import ModelMissing, OllamaFailure, ServerFailed, TookTooLong
from deployments.ollama.instructions import build_messages
from deployments.ollama.pool import Server, ServerPool
from deployments.ollama.pull import ModelPull
from deployments.ollama.settings import OllamaSettings
from deployments.ollama.template import compose, shortcomings
from deployments.telemetry import Record, record_state, start_at_zero, unrecorded
from deployments.types import (
    ComponentStatus,
    PromptComplete,
    PromptDelta,
    PromptEvent,
    PromptRequest,
    PromptRestart,
)

HEADING = re.compile(r"\A(?:image[ -])?prompt\s*:\s*", re.IGNORECASE)
QUOTES = ('""', "''", "“”", "„“", "«»", "「」")

logger = logging.getLogger("image_analyzer.ollama")


class PromptWriter:
    """Every request asks Ollama anew: a refused connection costs a millisecond, and it is found when it is back.

    Args:
        settings: addresses, model, sampling and limits.
        required: raise where Ollama cannot write, in place of composing.
        record: takes waits, first tokens, speed and outcome of every prompt, and how the servers stand.
        transport: replaces the network in tests.
    """

    def __init__(
        self,
        settings: OllamaSettings,
        *,
        required: bool,
        record: Record = unrecorded,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._settings = settings
        self._required = required
        self._record = record
        start_at_zero(record, telemetry.OLLAMA_PROMPTS, settings.hosts, ["written", "failed", "left"])
        clients = [OllamaClient(settings, host, transport, record) for host in settings.hosts]
        self._pool = ServerPool(
            [Server(client, ModelPull(client, settings.model)) for client in clients],
            max_parallel=settings.max_parallel,
            max_waiting=settings.max_waiting,
            rest_s=settings.server_rest_s,
            retry_after_s=settings.retry_after_s,
        )

    async def write(self, request: PromptRequest) -> AsyncGenerator[PromptEvent, None]:
        """Stream the prompt: pieces, perhaps a restart and other pieces, then the whole.

        The whole text is the pieces after the last restart joined, less the heading, quotation marks and blanks
        that a model may put around its answer. Close the generator (`contextlib.aclosing`) or cancel its reader,
        and Ollama stops.

        Raises:
            QueueFull: Ollama is required, and as many requests wait as may wait.
            OllamaUnavailable: Ollama is required and cannot write.
            DeadlinePassed: Ollama is required and took too long.
        """
        text = ""
        try:
            async with Coalescer(functools.partial(self._read, request), self._flush_interval_s) as coalescer:
                while piece := await coalescer.piece():
                    text += piece
                    yield PromptDelta(piece)
            prompt = _unwrapped(text)
            if not prompt:
                raise ServerFailed("Ollama's answer was empty.", "Try again, or try another model.")
        except OllamaFailure as failure:
            if self._required:
                raise self._public(failure) from failure
            shortcoming = str(failure)
        except QueueFull as full:
            if self._required:
                raise
            shortcoming = str(full)
        else:
            yield PromptComplete(prompt, "ollama", self._cut(text))
            return
        if text:
            yield PromptRestart(shortcoming)
        composed = compose(request)
        yield PromptDelta(composed)
        yield PromptComplete(composed, "template", (shortcoming, *shortcomings(request)))

    async def status(self) -> ComponentStatus:
        """Ask the servers how they stand now; a model found missing is pulled if `auto_pull` is set."""
        status = await self._status()
        record_state(self._record, "writer", status)
        return status

    async def _status(self) -> ComponentStatus:
        servers = self._pool.servers
        found = await asyncio.gather(*(_failure_of(server.client) for server in servers))
        for server, failure in zip(servers, found, strict=True):
            self._record(telemetry.OLLAMA_UP, float(failure is None), host=server.client.host)
        failures = [
            self._answered_by_pull(server, failure)
            for server, failure in zip(servers, found, strict=True)
            if failure is not None
        ]
        facts: dict[str, str | int | float] = {
            "model": self._settings.tagged_model,
            "host": ", ".join(self._settings.hosts),
            "writing": self._pool.writing,
            "waiting": self._pool.waiting,
        }
        percents = [server.pull.percent for server in servers if server.pull.running]
        if percents:
            facts["pull_percent"] = min(percents)
        if len(failures) < len(servers):
            if failures:
                facts["not_writing"] = " ".join(map(str, failures))
            return ComponentStatus("ready", "ollama", facts=facts)
        told = failures[0]
        if self._required:
            return ComponentStatus("unavailable", "none", told.reason, told.remedy, facts)
        return ComponentStatus("fallback", "template", told.reason, told.remedy, facts)

    async def close(self) -> None:
        """Stop the pulls and close the clients."""
        for server in self._pool.servers:
            await server.pull.close()
            await server.client.close()

    async def _read(self, request: PromptRequest, take: Callable[[str], None]) -> None:
        """Read one server's answer; until its first token, where that server fails, another's."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._settings.total_timeout_s
        messages, options = build_messages(request), self._settings.sampling(deep=request.options.deep_thinking)
        begun = again = False
        while True:
            came_s = loop.time()
            # The line needs no limit of its own: whoever is ahead in it has the earlier deadline.
            async with self._pool.turn(again=again) as server:
                started_s = loop.time()
                self._record(telemetry.OLLAMA_WAIT_SECONDS, started_s - came_s)
                outcome = "left"
                try:
                    async with aclosing(server.client.chat(messages, options, deadline_s=deadline_s)) as tokens:
                        async for token in tokens:
                            begun = True
                            take(token)
                except OllamaFailure as failure:
                    outcome = "failed"
                    again = self._pool.rest(server, failure.reason)
                    told = self._answered_by_pull(server, failure)
                    if begun or not again or isinstance(failure, TookTooLong):
                        raise told from None
                else:
                    outcome = "written"
                    self._pool.works(server)
                    logger.info("%s wrote a prompt in %.1f s.", server.client.host, loop.time() - started_s)
                    return
                finally:
                    self._record(telemetry.OLLAMA_PROMPTS, host=server.client.host, outcome=outcome)

    def _flush_interval_s(self) -> float:
        return max(self._settings.flush_interval_s, self._pool.writing / self._settings.max_pieces_per_s)

    def _answered_by_pull(self, server: Server, failure: OllamaFailure) -> OllamaFailure:
        if not (self._settings.auto_pull and isinstance(failure, ModelMissing)):
            return failure
        server.pull.start()
        return ModelMissing(server.pull.sentence(), "Wait until it is there.")

    def _public(self, failure: OllamaFailure) -> AnalyzerError:
        kind = DeadlinePassed if isinstance(failure, TookTooLong) else OllamaUnavailable
        return kind(str(failure), retry_after_s=self._settings.retry_after_s)

    def _cut(self, text: str) -> tuple[str, ...]:
        limit_chars = self._settings.max_prompt_chars
        return (f"The prompt was cut at {limit_chars} characters.",) if len(text) == limit_chars else ()


async def _failure_of(client: OllamaClient) -> OllamaFailure | None:
    try:
        await client.check()
    except OllamaFailure as failure:
        return failure
    return None


def _unwrapped(text: str) -> str:
    text = HEADING.sub("", text.strip())
    for pair in QUOTES:
        opening, closing = pair[0], pair[1]
        inner = text[1:-1]
        if text.startswith(opening) and text.endswith(closing) and closing not in inner:
            return inner.strip()
    return text


class Coalescer:
    """Passes the first token on at once, later ones joined; enter it to begin, leave it to stop the source.

    The source is read ahead in a task of its own, so a slow consumer gets longer pieces and not a longer delay,
    and the source ends when it has no more and not when the consumer has taken all. How far ahead is the
    source's to bound.

    Args:
        read: runs the source, giving each token to the function that it is called with.
        flush_interval_s: says how long after each piece the next may come.
    """

    def __init__(
        self, read: Callable[[Callable[[str], None]], Coroutine[Any, Any, None]], flush_interval_s: Callable[[], float]
    ) -> None:
        self._read = read
        self._flush_interval_s = flush_interval_s
        self._held: list[str] = []
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._flush_at_s = self._loop.time()
        self._reader = asyncio.create_task(self._read(self._take))
        self._reader.add_done_callback(lambda _: self._news.set())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def piece(self) -> str:
        """Give what has come since the last piece; empty where the source has ended.

        Raises:
            Exception: whatever the source raised, after everything that it gave before.
        """
        while self._held or not self._reader.done():
            await self._news.wait()
            wait_s = self._flush_at_s - self._loop.time()
            if wait_s > 0 and not self._reader.done():
                await asyncio.wait({self._reader}, timeout=wait_s)
            self._news.clear()
            if self._held:
                joined = "".join(self._held)
                self._held.clear()
                self._flush_at_s = self._loop.time() + self._flush_interval_s()
                return joined
        await self._reader
        return ""

    def _take(self, token: str) -> None:
        self._held.append(token)
        self._news.set()
