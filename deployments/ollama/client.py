"""One Ollama server, asked over HTTP, with limits."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from deployments import telemetry
from deployments.ollama.failures import FailureNames, ModelUnfit, OllamaFailure, ServerFailed
from deployments.ollama.model_names import is_same
from deployments.ollama.settings import OllamaSettings
from deployments.ollama.wire import ChatLine, ListedModel, ModelList, PullLine, ShownModel, error_sentence
from deployments.telemetry import Record, unrecorded

NO_CHARACTER = re.compile("[\ufffd\ud800-\udfff]")
"""What decoders leave where a token ends inside a character: the mark for bytes that are no UTF-8, half a pair."""

SLOW_START = "sent no first token within {:g} s"
SLOW_STEP = "sent no further token for {:g} s"
SLOW_END = "did not finish within {:g} s"

NS_PER_S = 1e9

CHAT, PULL, MODELS, SHOW = "/api/chat", "/api/pull", "/api/tags", "/api/show"


class OllamaClient:
    """Talks to one server about one model.

    Goes straight to the server: an HTTP_PROXY meant for the internet must not see a local call, and giving
    the transport explicitly makes httpx leave such variables aside (SSL_CERT_FILE still counts). A new
    connection for every call: beside an answer of seconds it costs nothing, and a server that was restarted can
    never be met through a connection that died with it. aiohttp reads the answers: its parser is in C, httpx's own
    in Python. No redirect is followed: most make a GET of a POST, and the headers are meant for this server alone.

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
        self._failures = FailureNames(settings, host)
        self._shown: dict[ListedModel, ShownModel] = {}
        self._http = httpx.AsyncClient(
            base_url=host,
            headers=settings.headers_for(host),
            timeout=httpx.Timeout(None, connect=settings.connect_timeout_s),
            transport=transport or _straight_to_the_server(),
        )

    async def close(self) -> None:
        """Close what is open."""
        await self._http.aclose()

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
        asked = {
            "model": limits.model,
            "messages": messages,
            "stream": True,
            "options": options,
            "keep_alive": limits.keep_alive,
        }
        async with aclosing(self._lines(CHAT, asked)) as lines:
            done = False
            while room_chars and not done:
                try:
                    line = await self._next(lines, deadline_s, patience_s, complaint)
                except ModelUnfit:
                    await self.check()  # which says the same, and what is there in its place
                    raise
                patience_s, complaint = limits.token_gap_timeout_s, SLOW_STEP
                done = line.done
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

    def _record_speed(self, last: ChatLine) -> None:
        tokens, took_ns = last.eval_count, last.eval_duration
        if tokens and took_ns:
            self._record(telemetry.OLLAMA_TOKENS, tokens, host=self.host)
            self._record(telemetry.OLLAMA_TOKENS_PER_SECOND, tokens / (took_ns / NS_PER_S), host=self.host)

    async def check(self) -> None:
        """Ask whether the server is up and holds the model, and whether that writes.

        Raises:
            OllamaFailure: it is not, does not, failed, or took longer than `status_timeout_s`.
        """
        limit_s = self._settings.status_timeout_s
        with self._failures.named(f"did not list its models within {limit_s:g} s"):
            async with asyncio.timeout(limit_s):
                models = ModelList.model_validate(await self._answer(self._http.get(MODELS))).models
                found = next((model for model in models if is_same(model.model, self._settings.model)), None)
                if found is None:
                    raise self._failures.missing(models)
                if not await self._writes(found):
                    raise self._failures.unfit(models)

    async def pull(self) -> AsyncGenerator[int, None]:
        """Have the server fetch the model; yields the percentage that is there, over all layers known so far.

        Raises:
            OllamaFailure: the server could not fetch it, or showed no progress for `pull_stall_timeout_s`.
        """
        limit_s = self._settings.pull_stall_timeout_s
        layers: dict[str, tuple[int, int]] = {}
        async with aclosing(self._lines(PULL, {"model": self._settings.model, "stream": True})) as lines:
            while True:
                with self._failures.named(f"showed no progress for {limit_s:g} s"):
                    async with asyncio.timeout(limit_s):
                        line = PullLine.model_validate(await self._unended(lines))
                if line.status == "success":
                    return
                if line.digest and line.total:
                    layers[line.digest] = (line.completed or 0, line.total)
                    completed, total = map(sum, zip(*layers.values(), strict=True))
                    yield 100 * completed // total

    async def _writes(self, model: ListedModel) -> bool:
        """Tell whether a model writes, as far as is known; older servers are asked once for each version of it."""
        if model.capabilities is None and model not in self._shown:
            with suppress(OllamaFailure):
                shown = await self._answer(self._http.post(SHOW, json={"model": model.model}))
                self._shown = {model: ShownModel.model_validate(shown)}
        return self._shown.get(model, model).writes

    async def _answer(self, asking: Awaitable[httpx.Response]) -> object:
        response = await asking
        if not response.is_success:
            raise self._failures.of_answer(response)
        return response.json()

    async def _next(
        self, lines: AsyncGenerator[dict[str, Any], None], deadline_s: float, patience_s: float, complaint: str
    ) -> ChatLine:
        until_s = asyncio.get_running_loop().time() + patience_s
        if deadline_s < until_s:
            until_s, patience_s, complaint = deadline_s, self._settings.total_timeout_s, SLOW_END
        with self._failures.named(complaint.format(patience_s)):
            async with asyncio.timeout_at(until_s):
                return ChatLine.model_validate(await self._unended(lines))

    async def _lines(self, path: str, body: Mapping[str, object]) -> AsyncGenerator[dict[str, Any], None]:
        async with self._http.stream("POST", path, json=body) as response:
            if not response.is_success:
                await response.aread()
                raise self._failures.of_answer(response)
            async for text in response.aiter_lines():
                line = json.loads(text)
                if line.get("error"):
                    raise self._failures.of_error(error_sentence(line))
                yield line

    async def _unended(self, lines: AsyncGenerator[dict[str, Any], None]) -> dict[str, Any]:
        line = await anext(lines, None)
        if line is None:
            raise self._failures.broken_off()
        return line


def _straight_to_the_server() -> AiohttpTransport:
    tls = httpx.create_ssl_context()
    return AiohttpTransport(
        verify=tls,
        client=lambda: aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True, ssl=tls)),
    )
