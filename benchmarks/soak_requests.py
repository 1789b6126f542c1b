"""What the callers of a soak run send, kind by kind, and which outcomes of each are right."""

from __future__ import annotations

import asyncio
import io
import json
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from PIL import Image

from tests.support.pictures import PHOTOGRAPHS, header_of_png, photograph_path

ANALYZE, STREAM, HEALTH = "/api/images/analyze", "/api/images/analyze-stream", "/api/images/health"
LEFT = "left"
"""The outcome of a caller that went away on purpose."""
BUSY = "429 queue_full"
EXTRA_BYTES = 8
LARGER_THAN_ALLOWED_BYTES = 22_000_000
BOMB_EDGE_PX = 60_000
PATIENCE_S = (0.01, 0.3)
"""How long callers that leave wait first, in s: some leave while the picture is read, some while it is written."""


@dataclass(frozen=True)
class Done:
    """What became of one request: its outcome, and the milliseconds of the stages that it tells of."""

    outcome: str
    stages_ms: Mapping[str, float] = field(default_factory=dict)


Send = Callable[[httpx.AsyncClient], Awaitable[Done]]


@dataclass(frozen=True)
class Kind:
    """A kind of request; `weight` is how often it comes, `right` what may become of it."""

    name: str
    weight: int
    send: Send
    right: frozenset[str]


def kinds(choice: random.Random) -> Sequence[Kind]:
    """Give every kind; what is chosen is chosen by `choice`."""
    photographs = [photograph_path(name).read_bytes() for name in PHOTOGRAPHS]

    def photograph() -> bytes:
        """One of the photographs, with a tail that decoders pass over, so that it is not remembered."""
        return choice.choice(photographs) + secrets.token_bytes(EXTRA_BYTES)

    def broken(data: bytes) -> bytes:
        return data[: len(data) // 2]

    same = photographs[0]
    answered = frozenset({"200", BUSY})
    streamed = frozenset({"complete", "error queue_full", BUSY})

    def unary(make: Callable[[], bytes], **form: str) -> Send:
        return lambda client: _unary(client, make(), form)

    unreadable = frozenset({"400 unreadable_image"})
    return (
        Kind("photograph", 10, unary(photograph, user_prompt="at dusk"), answered),
        Kind("analysis only", 20, unary(photograph, analysis_only="true"), answered),
        Kind("the same again", 10, unary(lambda: same, analysis_only="true"), answered),
        Kind("stream", 10, lambda client: _stream(client, photograph()), streamed),
        Kind("stream, left midway", 6, lambda client: _stream(client, photograph(), leave=True), streamed | {LEFT}),
        Kind("unary, left midway", 6, lambda client: _left(client, photograph(), choice), answered | {LEFT}),
        Kind(
            "no picture", 2, unary(lambda: b"no picture" + secrets.token_bytes(8)), frozenset({"400 unreadable_image"})
        ),
        Kind("half a picture", 2, unary(lambda: broken(photographs[4])), unreadable),
        Kind("bomb", 2, unary(lambda: header_of_png(BOMB_EDGE_PX, BOMB_EDGE_PX)), frozenset({"413 too_many_pixels"})),
        Kind("another format", 2, unary(_netpbm), frozenset({"415 format_not_accepted"})),
        Kind("wrong field", 2, unary(photograph, language="xx"), frozenset({"422 invalid_form"})),
        Kind("no form", 2, _no_form, frozenset({"422 invalid_form"})),
        # A caller that sends on after the answer may find the connection closed before it reads.
        Kind("too large", 1, unary(_too_large), frozenset({"413 upload_too_large", "closed"})),
        Kind("health", 4, _health, frozenset({"200"})),
    )


async def _unary(client: httpx.AsyncClient, image: bytes, form: Mapping[str, str]) -> Done:
    began_s = time.perf_counter()
    try:
        response = await client.post(ANALYZE, files={"image": image}, data=form)
    except (httpx.WriteError, httpx.ReadError):
        return Done("closed")
    body = response.json()
    if response.status_code != httpx.codes.OK:
        return Done(f"{response.status_code} {body['code']}", {"refusal": 1000 * (time.perf_counter() - began_s)})
    return Done("200", {**body["timings"], "client's": 1000 * (time.perf_counter() - began_s)})


async def _stream(client: httpx.AsyncClient, image: bytes, *, leave: bool = False) -> Done:
    began_s = time.perf_counter()
    stages_ms: dict[str, float] = {}
    async with client.stream("POST", STREAM, files={"image": image}) as response:
        if response.status_code != httpx.codes.OK:
            return Done(f"{response.status_code} {json.loads(await response.aread())['code']}")
        async for line in response.aiter_lines():
            if not line.startswith("data: "):
                continue
            event: dict[str, Any] = json.loads(line.removeprefix("data: "))
            match event["status"]:
                case "delta":
                    stages_ms.setdefault("first words", 1000 * (time.perf_counter() - began_s))
                    if leave:
                        return Done(LEFT)
                case "complete":
                    return Done("complete", stages_ms)
                case "error":
                    return Done(f"error {event['code']}")
    return Done("cut")


async def _left(client: httpx.AsyncClient, image: bytes, choice: random.Random) -> Done:
    try:
        async with asyncio.timeout(choice.uniform(*PATIENCE_S)):
            return await _unary(client, image, {})
    except TimeoutError:
        return Done(LEFT)


async def _no_form(client: httpx.AsyncClient) -> Done:
    response = await client.post(ANALYZE, content=b"--x\r\n\r\n", headers={"Content-Type": "multipart/form-data"})
    return Done(f"{response.status_code} {response.json()['code']}")


async def _health(client: httpx.AsyncClient) -> Done:
    began_s = time.perf_counter()
    status = (await client.get(HEALTH)).status_code
    return Done(str(status), {"health": 1000 * (time.perf_counter() - began_s)})


def _netpbm() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "PPM")
    return buffer.getvalue()


def _too_large() -> bytes:
    return bytes(LARGER_THAN_ALLOWED_BYTES)
