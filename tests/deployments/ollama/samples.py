"""A picture's scores, a server that keeps time, and what the writer made of a request."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
from PIL import Image

from deployments.ollama.client import OllamaClient
from deployments.ollama.jpeg import encoded
from deployments.ollama.settings import OllamaSettings
from deployments.ollama.writer import PromptWriter
from deployments.types import (
    AnalyzerName,
    LabelScore,
    PromptComplete,
    PromptDelta,
    PromptEvent,
    PromptOptions,
    PromptRequest,
    PromptRestart,
    Scores,
    Swatch,
)
from tests.support.fake_ollama import FakeOllama

MODEL = "mistral:latest"
"""Who writes by the default settings."""

LOCAL = "http://localhost:11434"
Server = FakeOllama | httpx.AsyncBaseTransport | None


def _ranked(**shares: float) -> tuple[LabelScore, ...]:
    return tuple(LabelScore(name.replace("_", " "), share) for name, share in shares.items())


MOUNTAINS = PromptRequest(
    scores={
        "style": _ranked(photorealistic=0.62, modern=0.2, vintage=0.05),
        "mood": _ranked(calm=0.4, peaceful=0.35, epic=0.1),
        "composition": _ranked(wide_angle=0.5, depth=0.3, minimal=0.1),
        "color_palette": _ranked(earth_tones=0.5, muted=0.2),
        "subjects": _ranked(mountains=0.5, landscape=0.3, forest=0.1),
    },
    palette=(Swatch("#4a3220", 0.4), Swatch("#4682b4", 0.3)),
)


def mountains(scores: Scores = MOUNTAINS.scores, analyzer: AnalyzerName = "clip", **options: Any) -> PromptRequest:
    """The same picture, or one with other scores or of the stand-in, asked for differently."""
    return replace(MOUNTAINS, scores=scores, analyzer=analyzer, options=PromptOptions(**options))


def jpeg(size: tuple[int, int] = (768, 576), colour: str = "teal") -> bytes:
    """Give a picture as a model is shown it."""
    return encoded(Image.new("RGB", size, colour))


JPEG = jpeg()


def looked_at(picture: bytes = JPEG, **options: Any) -> PromptRequest:
    """The same picture, which may be looked at."""
    return replace(mountains(**options), jpeg=picture, picture=hashlib.sha256(picture).hexdigest())


class TimedOllama(httpx.AsyncBaseTransport):
    """Sends each text, or message, after its pause, then the last line, in every answer, however many there are."""

    def __init__(self, *script: tuple[float, str | dict[str, str]], lists_models: bool = True) -> None:
        self._script = (*script, (0.0, ""))
        self._lists_models = lists_models

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET" and self._lists_models:
            return httpx.Response(200, json={"models": []})

        async def lines() -> AsyncIterator[bytes]:
            for pause_s, text in self._script:
                await asyncio.sleep(pause_s)
                message = text if isinstance(text, dict) else {"content": text}
                yield (
                    json.dumps({"message": {"role": "assistant", "content": "", **message}, "done": not text}).encode()
                    + b"\n"
                )

        return httpx.Response(200, content=lines())


async def collected(events: AsyncGenerator[PromptEvent, None]) -> list[PromptEvent]:
    """Read a stream to its end."""
    async with aclosing(events):
        return [event async for event in events]


def text_of(events: list[PromptEvent]) -> str:
    """What a reader has on the screen once the stream has ended."""
    text = ""
    for event in events:
        match event:
            case PromptDelta(piece):
                text += piece
            case PromptRestart():
                text = ""
    return text


def outcome(events: list[PromptEvent]) -> PromptComplete:
    """The last event, which must be the complete prompt and the only one of its kind."""
    (complete,) = [event for event in events if isinstance(event, PromptComplete)]
    assert complete == events[-1]
    return complete


@asynccontextmanager
async def open_client(server: Server = None, *, host: str = LOCAL, **settings: Any) -> AsyncIterator[OllamaClient]:
    """Make a client of a server, or of what stands for the network between it and a host."""
    at, transport = (server.url, None) if isinstance(server, FakeOllama) else (host, server)
    limits = OllamaSettings(hosts=(at,), **settings)
    client = OllamaClient(limits, limits.hosts[0], transport)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def open_writer(*servers: FakeOllama, required: bool = False, **settings: Any) -> AsyncIterator[PromptWriter]:
    """Make a writer for these servers; all that it has begun has ended when it is closed."""
    writer = PromptWriter(OllamaSettings(hosts=tuple(server.url for server in servers), **settings), required=required)
    try:
        yield writer
    finally:
        await writer.close()
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    async with asyncio.timeout(5):  # httpx leaves generators to the loop, which closes them in tasks that soon end
        await asyncio.gather(*left, return_exceptions=True)


async def tokens_of(server: Server = None, **settings: Any) -> list[str]:
    """Have a prompt written, and give its tokens."""
    deadline_s = asyncio.get_running_loop().time() + OllamaSettings().total_timeout_s
    async with (
        open_client(server, **settings) as client,
        aclosing(client.chat([{"role": "user", "content": "a fox"}], {}, deadline_s=deadline_s)) as tokens,
    ):
        return [token.text async for token in tokens if token.text]


async def check(server: Server = None, **settings: Any) -> None:
    """Ask what health asks."""
    async with open_client(server, **settings) as client:
        await client.has.check(client._settings.model)
