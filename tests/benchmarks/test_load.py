"""The callers, against a server that answers as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from benchmarks.load import Load
from benchmarks.outcome import NO_ANSWER, OK, REFUSED, Outcome

CHUNKED = b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{"a\r\n3\r\n":1\r\n1\r\n}\r\n0\r\n\r\n'
FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
LAST = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
FULL = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 100\r\nContent-Length: 0\r\n\r\n"
BROKEN = b"HTTP/1.1 500 Oh\r\nContent-Length: 6\r\n\r\nbroken"

DELAY_S = 0.002

Answer = Callable[[int], bytes]
"""Number of the request on this server → all that is written, nothing to hang up."""
Before = Callable[[int], Awaitable[Any]]
"""The same → what is waited for before."""


async def _pause(number: int) -> None:
    await asyncio.sleep(DELAY_S)


def held(first: asyncio.Event) -> Before:
    return lambda number: first.wait() if number == 1 else _pause(number)


@asynccontextmanager
async def serving(answer: Answer, before: Before = _pause) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Serve on a port of its own; give the address, and the bodies received so far."""
    received: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            received.append(await reader.readexactly(length))
            number = len(received)
            await before(number)
            content = answer(number)
            writer.write(content)
            if not content or b"Connection: close" in content:
                break
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/analyze", received
    finally:
        server.close()


def load_on(url: str, edge_limit_s: float = 0.1) -> Load:
    return Load(urlsplit(url), "text/plain", lambda number: b"%d" % number, count(), edge_limit_s)


async def send(load: Load, callers: int = 2, warm_up_limit_s: float = 10, window_s: float = 0.1) -> Outcome:
    return await load.run(callers, warm_up_s=0.01, warm_up_limit_s=warm_up_limit_s, window_s=window_s)


async def test_answers_of_every_framing_are_counted_and_each_request_has_its_own_number() -> None:
    answers = (FINE, CHUNKED, LAST)
    async with serving(lambda number: answers[number % 3]) as (url, received):
        outcome = await send(load_on(url))

    assert set(outcome.latencies_ms) == {OK}
    assert 3 <= outcome.count(OK) < len(received)
    assert min(outcome.latencies_ms[OK]) >= 1000 * DELAY_S
    assert len(set(received)) == len(received)


async def test_a_refused_caller_waits_as_long_as_it_is_told() -> None:
    load: Load
    async with serving(lambda _: FULL if load.counting else FINE) as (url, _):
        load = load_on(url)
        outcome = await send(load)

    assert outcome.count(REFUSED) == 2
    assert outcome.failures == 0


async def test_errors_and_hung_up_connections_are_failures_and_the_first_is_told() -> None:
    async with serving(lambda number: BROKEN if number % 2 else b"") as (url, _):
        outcome = await send(load_on(url), window_s=0.5)

    assert outcome.count(500) > 0
    assert outcome.count(NO_ANSWER) > 0
    assert outcome.failures == outcome.count(500) + outcome.count(NO_ANSWER)
    assert outcome.first_failure == "500: broken"


async def test_the_window_opens_when_every_caller_has_had_an_answer() -> None:
    hold = asyncio.Event()
    async with serving(lambda _: FINE, before=held(hold)) as (url, received):
        load = load_on(url)
        sending = asyncio.create_task(send(load))
        await asyncio.sleep(50 * DELAY_S)
        assert not load.counting
        seen = len(received)
        hold.set()
        outcome = await sending

    assert 0 < outcome.count(OK) <= len(received) - seen + 1


async def test_the_window_holds_whole_answers() -> None:
    answer_s = 0.1

    async with serving(lambda _: FINE, before=lambda _: asyncio.sleep(answer_s)) as (url, _):
        outcome = await send(load_on(url, edge_limit_s=5), callers=1, window_s=1.5 * answer_s)

    assert outcome.count(OK) >= 1
    assert outcome.window_s >= outcome.count(OK) * answer_s


async def test_the_window_opens_in_the_end_though_a_caller_goes_without_an_answer() -> None:
    hold = asyncio.Event()
    async with serving(lambda _: FINE, before=held(hold)) as (url, _):
        load = load_on(url)
        load.over = hold
        outcome = await send(load, warm_up_limit_s=0.1)

    assert outcome.count(OK) > 0
