"""Callers that stream at once from a process of their own, and note when each token arrives.

While they run they only keep what arrives, with its time; it is read afterwards.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import httptools
import httpx

ANSWER_LIMIT_S = 120
STAMP = re.compile(r"\d+")

Pieces = Sequence[tuple[int, bytes]]
"""What arrived on a connection, in order, and when: `time.monotonic_ns`."""


@dataclass(frozen=True)
class Stream:
    """One answer: when each token was sent and when it arrived, and when the end arrived; monotonic nanoseconds."""

    sent_ns: tuple[int, ...]
    arrived_ns: tuple[int, ...]
    ended_ns: int

    @property
    def delays_ms(self) -> list[float]:
        """How long each token was on its way."""
        return [(arrived - sent) / 1e6 for sent, arrived in zip(self.sent_ns, self.arrived_ns, strict=True)]

    @property
    def took_s(self) -> float:
        """From the sending of the first token to the arrival of the end."""
        return (self.ended_ns - self.sent_ns[0]) / 1e9


@contextmanager
def calling(requests: Sequence[httpx.Request]) -> Iterator[Callable[[], list[Stream]]]:
    """Send all requests at once, each on a connection of its own, from a new process.

    Yields:
        What waits for the answers. It raises ValueError where one is not a stream of stamped tokens, saying what came
        instead, and TimeoutError where they took longer than `ANSWER_LIMIT_S`.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        answers = pool.submit(_collect, requests[0].url.netloc, [_on_the_wire(request) for request in requests])
        yield lambda: [read_stream(pieces) for pieces in answers.result()]


def read_stream(pieces: Pieces) -> Stream:
    """Find the stamped tokens in an HTTP answer of Ollama's lines, or of the service's events.

    Raises:
        ValueError: it is not 200, or has no such tokens, or does not end as it should.
    """
    body = _Body()
    parser = httptools.HttpResponseParser(body)
    sent: list[int] = []
    arrived: list[int] = []
    ended_ns = 0
    for at_ns, piece in pieces:
        parser.feed_data(piece)
        *lines, body.content = body.content.split(b"\n")
        for text, ended in map(_text_and_end, lines):
            stamps = [int(stamp) for stamp in STAMP.findall(text)]
            sent += stamps
            arrived += [at_ns] * len(stamps)
            ended_ns = at_ns if ended else ended_ns
    if parser.get_status_code() != httpx.codes.OK or not sent or not ended_ns:
        raise ValueError(f"This is no stream of stamped tokens: {b''.join(piece for _, piece in pieces)[-1000:]!r}")
    return Stream(tuple(sent), tuple(arrived), ended_ns)


class _Body:
    """What httptools calls with the parts of an answer's body."""

    def __init__(self) -> None:
        self.content = b""

    def on_body(self, part: bytes) -> None:
        self.content += part


def _text_and_end(line: bytes) -> tuple[str, bool]:
    """Read a line of either kind: the tokens it brings, and whether it is the answer's end."""
    line = line.removeprefix(b"data: ")
    if not line.startswith(b"{"):
        return "", False
    told = json.loads(line)
    if "status" not in told:
        return told["message"]["content"], told["done"]
    return told.get("text", ""), told["status"] == "complete" and told["promptSource"] == "ollama"


def _on_the_wire(request: httpx.Request) -> bytes:
    head = b"".join(b"%b: %b\r\n" % header for header in request.headers.raw)
    return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (request.method.encode(), request.url.raw_path, head, request.read())


def _collect(address: bytes, requests: Sequence[bytes]) -> list[Pieces]:
    host, port = address.decode().split(":")

    async def collect() -> list[Pieces]:
        loop = asyncio.get_running_loop()
        connections = [await loop.create_connection(_Connection, host, int(port)) for _ in requests]
        for (transport, _), request in zip(connections, requests, strict=True):
            transport.write(request)
        async with asyncio.timeout(ANSWER_LIMIT_S):
            await asyncio.gather(*(connection.closed for _, connection in connections))
        return [connection.pieces for _, connection in connections]

    return asyncio.run(collect())


class _Connection(asyncio.Protocol):
    """Keeps what arrives until the other side closes."""

    def __init__(self) -> None:
        self.pieces: list[tuple[int, bytes]] = []
        self.closed = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.pieces.append((time.monotonic_ns(), data))

    def connection_lost(self, error: Exception | None) -> None:
        self.closed.set_result(None)
