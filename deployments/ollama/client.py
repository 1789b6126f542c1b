"""One Ollama server: the `ollama` client with limits, and every way it can fail turned into one small family."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Literal, NamedTuple, TypeVar, cast

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from deployments import telemetry
from deployments.ollama.failures import BrokenOff, CannotDo, FailureNames, ModelUnfit
from deployments.ollama.inventory import Inventory
from deployments.ollama.package import make_client, ollama
from deployments.ollama.settings import OllamaSettings
from deployments.telemetry import Record, unrecorded

NO_CHARACTER = re.compile("[\ufffd\ud800-\udfff]")
"""What decoders leave where a token ends inside a character: the mark for bytes that are no UTF-8, half a pair."""

SLOW_START = "sent no first token within {:g} s"
SLOW_STEP = "sent no further token for {:g} s"
SLOW_END = "did not finish within {:g} s"

NS_PER_S = 1e9

LOOP_TOKENS = 30
"""After so many of the same Ollama ends an answer without a last line: an end, and no broken connection."""

LOOPED = "loop"
"""Why an answer ended that Ollama ended so."""

Line = TypeVar("Line")

Think = Literal[True, False, "low", "medium", "high"]


class Said(NamedTuple):
    """The next piece of an answer; with the last one, why it ended. One without text begins a thought."""

    text: str
    done_reason: str = ""
    thinks: bool = False


class OllamaClient:
    """Talks to one server.

    Goes straight to the server: an HTTP_PROXY meant for the internet must not see a local call, and giving
    the transport explicitly makes httpx leave such variables aside (SSL_CERT_FILE still counts). A new
    connection for every call: beside an answer of seconds it costs nothing, and a server that was restarted can
    never be met through a connection that died with it. aiohttp reads the answers: its parser is in C, httpx's own
    in Python.

    Args:
        settings: model and limits.
        host: the server's address.
        transport: replaces the network in tests.
        record: takes how soon and how fast tokens come.
    """

    def __init__(
        self,
        settings: OllamaSettings,
        host: str,
        transport: httpx.AsyncBaseTransport | None = None,
        record: Record = unrecorded,
    ) -> None:
        self.host = host
        self._record = record
        self._settings = settings
        self.failures = FailureNames(settings, host)
        """Names what goes wrong here."""

        self._ollama = make_client(
            host,
            settings.headers_for(host),
            timeout=httpx.Timeout(None, connect=settings.connect_timeout_s),
            transport=transport or _straight_to_the_server(),
            event_hooks={"response": [self._refuse_failure]},
        )
        self.has = Inventory(self._ollama, settings, self.failures)
        """What is there."""

    async def close(self) -> None:
        """Close what is open."""
        await self._ollama.close()  # type: ignore[no-untyped-call]

    async def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        options: Mapping[str, float | int],
        *,
        deadline_s: float,
        model: str = "",
        think: Think | None = None,
    ) -> AsyncGenerator[Said, None]:
        """Stream the answer, its text without leading blanks, and that it begins with a thought.

        Closing or cancelling the stream closes the connection, and with it the generation.

        Args:
            messages: role and content of each.
            options: temperature, num_predict and so on, by Ollama's names.
            deadline_s: event loop time by which the answer must be complete.
            model: the configured one when empty.
            think: whether and how hard the model is to think; not sent when None.

        Raises:
            OllamaFailure: any of the family; an answer without a visible character is one too.
        """
        limits = self._settings
        model = model or limits.model
        patience_s, complaint = limits.first_token_timeout_s, SLOW_START
        asked_s = asyncio.get_running_loop().time()
        answer = await self._ollama.chat(
            model, messages, stream=True, think=think, options=options, keep_alive=limits.keep_alive
        )
        thought = begun = done = False
        last, times = "", 0
        async with aclosing(cast("AsyncGenerator[ollama.ChatResponse, None]", answer)) as lines:
            while not done:
                try:
                    line = await self._next(lines, deadline_s, patience_s, complaint)
                except BrokenOff:
                    if times < LOOP_TOKENS:
                        raise
                    line = ollama.ChatResponse(message=ollama.Message(role="assistant"), done=True, done_reason=LOOPED)
                except ModelUnfit:
                    await self.has.check(model)  # which says the same, and what is there in its place
                    raise
                except CannotDo:
                    self.has.forget(model)
                    raise
                patience_s, complaint = limits.token_gap_timeout_s, SLOW_STEP
                done = bool(line.done)
                if line.message.thinking and not thought:
                    thought = True
                    yield Said("", thinks=True)
                token = line.message.content or ""
                last, times = token, times + 1 if token == last else 1
                text = NO_CHARACTER.sub("", token)
                if not begun:
                    text = text.lstrip()
                if text and not begun:
                    begun = True
                    waited_s = asyncio.get_running_loop().time() - asked_s
                    self._record(telemetry.OLLAMA_FIRST_TOKEN_SECONDS, waited_s, host=self.host)
                if text or done:
                    yield Said(text, done_reason=line.done_reason or "stop" if done else "")
                if done:
                    self._record_speed(line)
        if not begun:
            raise self.failures.nothing(model, thought=thought)

    def _record_speed(self, last: ollama.ChatResponse) -> None:
        tokens, took_ns = last.eval_count, last.eval_duration
        if tokens and took_ns:
            self._record(telemetry.OLLAMA_TOKENS, tokens, host=self.host)
            self._record(telemetry.OLLAMA_TOKENS_PER_SECOND, tokens / (took_ns / NS_PER_S), host=self.host)

    async def load(self, messages: Sequence[Mapping[str, str]], options: Mapping[str, float | int]) -> None:
        """Have the server load the configured model, and read what every request begins with.

        Raises:
            OllamaFailure: it could not, or took longer than a first token may.
        """
        limits = self._settings
        await self._told(limits.first_token_timeout_s, limits.model, messages, options, limits.keep_alive)

    async def unload(self, model: str) -> None:
        """Have the server free the memory that the model takes, once it has written what it writes.

        Raises:
            OllamaFailure: it could not, or took longer than `status_timeout_s`.
        """
        await self._told(self._settings.status_timeout_s, model, [], None, 0)

    async def _told(
        self,
        limit_s: float,
        model: str,
        messages: Sequence[Mapping[str, str]],
        options: Mapping[str, float | int] | None,
        keep_alive: str | int,
    ) -> None:
        with self.failures.named(f"did not answer within {limit_s:g} s"):
            async with asyncio.timeout(limit_s):
                await self._ollama.chat(model, messages, options=options, keep_alive=keep_alive)

    async def pull(self) -> AsyncGenerator[int, None]:
        """Have the server fetch the model; yields the percentage that is there, over all layers known so far.

        Raises:
            OllamaFailure: the server could not fetch it, or showed no progress for `pull_stall_timeout_s`.
        """
        limit_s = self._settings.pull_stall_timeout_s
        layers: dict[str, tuple[int, int]] = {}
        progress = await self._ollama.pull(self._settings.model, stream=True)
        async with aclosing(cast("AsyncGenerator[ollama.ProgressResponse, None]", progress)) as lines:
            while True:
                with self.failures.named(f"showed no progress for {limit_s:g} s"):
                    async with asyncio.timeout(limit_s):
                        line = await self._unended(lines)
                if line.status == "success":
                    return
                if line.digest and line.total:
                    layers[line.digest] = (line.completed or 0, line.total)
                    completed, total = map(sum, zip(*layers.values(), strict=True))
                    yield 100 * completed // total

    async def _refuse_failure(self, response: httpx.Response) -> None:
        if not response.is_success:
            await response.aread()
            raise self.failures.of_answer(response)

    async def _next(
        self,
        lines: AsyncGenerator[ollama.ChatResponse, None],
        deadline_s: float,
        patience_s: float,
        complaint: str,
    ) -> ollama.ChatResponse:
        until_s = asyncio.get_running_loop().time() + patience_s
        if deadline_s < until_s:
            until_s, patience_s, complaint = deadline_s, self._settings.total_timeout_s, SLOW_END
        with self.failures.named(complaint.format(patience_s)):
            async with asyncio.timeout_at(until_s):
                return await self._unended(lines)

    async def _unended(self, lines: AsyncGenerator[Line, None]) -> Line:
        line = await anext(lines, None)
        if line is None:
            raise self.failures.broken_off()
        return line


def _straight_to_the_server() -> AiohttpTransport:
    tls = httpx.create_ssl_context()
    return AiohttpTransport(
        verify=tls,
        client=lambda: aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True, ssl=tls)),
    )
