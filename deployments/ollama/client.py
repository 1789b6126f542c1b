"""One Ollama server: the `ollama` client with limits, and every way it can fail turned into one small family.

None of the family leaves this room under its own name.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import cast

import aiohttp
import httpx
import ollama
from httpx_aiohttp import AiohttpTransport

from deployments import telemetry
from deployments.ollama.settings import OllamaSettings
from deployments.telemetry import Record, unrecorded


class OllamaFailure(Exception):
    """Ollama did not write the prompt. `reason` says what happened, `remedy` what to do: one sentence each."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason} {remedy}")
        self.reason = reason
        self.remedy = remedy


class ServerDown(OllamaFailure):
    """Nothing accepts a connection at the address."""


class ModelMissing(OllamaFailure):
    """The server is there, the model is not."""


class ServerFailed(OllamaFailure):
    """The server answered with an error, broke off, or sent what is not its protocol."""


class TookTooLong(OllamaFailure):
    """The first token, the next token or the whole prompt passed its limit."""


NO_CHARACTER = re.compile("[\ufffd\ud800-\udfff]")
"""What decoders leave where a token ends inside a character: the mark for bytes that are no UTF-8, half a pair."""

SHOWN_ERROR_CHARS = 200
"""How much of the server's own error text is passed on: enough for its sentence, not for a page of HTML."""

SLOW_START = "sent no first token within {:g} s"
SLOW_STEP = "sent no further token for {:g} s"
SLOW_END = "did not finish within {:g} s"

NS_PER_S = 1e9

NOT_FOUND = 404
BUSY = 503


class OllamaClient:
    """Talks to one server about one model.

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
        self._ollama = ollama.AsyncClient(
            host=host,
            timeout=httpx.Timeout(None, connect=settings.connect_timeout_s),
            transport=transport or _straight_to_the_server(),
        )

    async def close(self) -> None:
        """Close what is open."""
        await self._ollama.close()  # type: ignore[no-untyped-call]

    async def chat(
        self, messages: Sequence[Mapping[str, str]], options: Mapping[str, float | int], *, deadline_s: float
    ) -> AsyncGenerator[str, None]:
        """Stream the answer's text, without leading blanks, cut at `max_prompt_chars`.

        Closing or cancelling the stream closes the connection, and with it the generation.

        Args:
            messages: role and content of each.
            options: temperature, num_predict, top_p.
            deadline_s: event loop time by which the answer must be complete.

        Raises:
            OllamaFailure: any of the family; an answer without a visible character is one too.
        """
        limits = self._settings
        room_chars = limits.max_prompt_chars
        patience_s, complaint = limits.first_token_timeout_s, SLOW_START
        asked_s = asyncio.get_running_loop().time()
        answer = await self._ollama.chat(
            limits.model, messages, stream=True, options=options, keep_alive=limits.keep_alive
        )
        async with aclosing(cast("AsyncGenerator[ollama.ChatResponse, None]", answer)) as lines:
            done = False
            while room_chars and not done:
                line = await self._next(lines, deadline_s, patience_s, complaint)
                patience_s, complaint = limits.token_gap_timeout_s, SLOW_STEP
                done = bool(line.done)
                text = NO_CHARACTER.sub("", line.message.content or "")[:room_chars]
                if room_chars == limits.max_prompt_chars:
                    text = text.lstrip()
                if text:
                    if room_chars == limits.max_prompt_chars:
                        waited_s = asyncio.get_running_loop().time() - asked_s
                        self._record(telemetry.OLLAMA_FIRST_TOKEN_SECONDS, waited_s, host=self.host)
                    room_chars -= len(text)
                    yield text
                if done:
                    self._record_speed(line)
        if room_chars == limits.max_prompt_chars:
            raise ServerFailed("Ollama's answer was empty.", "Try again, or try another model.")

    def _record_speed(self, last: ollama.ChatResponse) -> None:
        tokens, took_ns = last.eval_count, last.eval_duration
        if tokens and took_ns:
            self._record(telemetry.OLLAMA_TOKENS, tokens, host=self.host)
            self._record(telemetry.OLLAMA_TOKENS_PER_SECOND, tokens / (took_ns / NS_PER_S), host=self.host)

    async def check(self) -> None:
        """Ask whether the server is up and holds the model.

        Raises:
            OllamaFailure: it is not, does not, failed, or took longer than `status_timeout_s`.
        """
        limit_s = self._settings.status_timeout_s
        with self._failures_named(f"did not list its models within {limit_s:g} s"):
            async with asyncio.timeout(limit_s):
                listed = await self._ollama.list()
        if all(entry.model != self._settings.tagged_model for entry in listed.models):
            raise self._missing()

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
                with self._failures_named(f"showed no progress for {limit_s:g} s"):
                    async with asyncio.timeout(limit_s):
                        line = await anext(lines, None)
                if line is None:
                    raise self._broken_off()
                if line.status == "success":
                    return
                if line.digest and line.total:
                    layers[line.digest] = (line.completed or 0, line.total)
                    completed, total = map(sum, zip(*layers.values(), strict=True))
                    yield 100 * completed // total

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
        with self._failures_named(complaint.format(patience_s)):
            async with asyncio.timeout_at(until_s):
                line = await anext(lines, None)
        if line is None:
            raise self._broken_off()
        return line

    @contextmanager
    def _failures_named(self, too_slow: str) -> Iterator[None]:
        host = self.host
        try:
            yield
        except ollama.ResponseError as error:
            raise self._named(error) from error
        except (ConnectionError, httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ServerDown(f"Ollama does not answer at {host}.", "Start it there with: ollama serve") from error
        except TimeoutError as error:
            raise TookTooLong(f"Ollama at {host} {too_slow}.", "Try again, or choose a smaller model.") from error
        except httpx.HTTPError as error:
            raise self._broken_off() from error
        except (ValueError, TypeError, AttributeError, aiohttp.ClientResponseError) as error:
            # The ollama package takes each line's shape for granted, and fails in these ways when it is another. What
            # is no HTTP is an aiohttp.ClientResponseError, which the transport does not translate.
            raise ServerFailed(
                f"What answers at {host} does not speak Ollama's protocol.", "Check the address (OLLAMA_HOST)."
            ) from error

    def _named(self, error: ollama.ResponseError) -> ModelMissing | ServerFailed:
        told = " ".join(str(error.error).split())[:SHOWN_ERROR_CHARS]
        if error.status_code == NOT_FOUND and "model" in told:
            return self._missing()
        if error.status_code == BUSY:
            return ServerFailed(f"Ollama is busy: {told}.", "Try again in a few seconds.")
        return ServerFailed(f"Ollama failed: {told or error.status_code}.", "Its own log says more.")

    def _missing(self) -> ModelMissing:
        return ModelMissing(
            f"Ollama has no model {self._settings.model}.", f"Run: {self._settings.pull_command(self.host)}"
        )

    def _broken_off(self) -> ServerFailed:
        return ServerFailed(
            f"Ollama at {self.host} broke off in the middle of its answer.",
            "Try again; its own log says why.",
        )


def _straight_to_the_server() -> AiohttpTransport:
    tls = httpx.create_ssl_context()
    return AiohttpTransport(
        verify=tls,
        client=lambda: aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True, ssl=tls)),
    )


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
