"""The callers: `python -m benchmarks.load URL PICTURE …` sends as fast as it is answered, and tells what came back.

A closed loop of so many callers, each on a connection of its own. The window that is measured opens when every
caller has had an answer, so that it sees the queue as it stays. It opens and closes at the moment of an answer, so that
batches of 16 are in it whole or not at all. When the outcome is told, each caller still waits for the answer under way:
the next measurement begins with an idle server. A refused caller (429) waits as long as `Retry-After` says, any other
failure waits `FAILURE_PAUSE_S`; both are counted.

Its own process, and sockets read by hand: the callers share the cores with the server, and a client library would
take from it several times what these lines take.

Writes one JSON object a line: `{"event": "opened"}` and `{"event": "closed"}` as it happens, then the `Outcome`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from benchmarks.outcome import NO_ANSWER, OK, REFUSED, Outcome, tell
from benchmarks.upload import VariedPicture, body_maker, content_type

ANSWER_LIMIT_S = 60
"""Longest wait for an answer; then the connection is given up and the request counts as failed."""
FAILURE_PAUSE_S = 0.2
"""Keeps callers from spinning on a server that fails at once."""
SHOWN_CHARACTERS = 300


class Caller:
    """One connection: sends a request, reads the answer whole; opens anew when the server has closed it."""

    def __init__(self, url: SplitResult, kind: str) -> None:
        self._url = url
        self._kind = kind
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Give status, headers in lower case, and body.

        Raises:
            OSError, EOFError, asyncio.LimitOverrunError, ValueError: there is no answer, or none in HTTP.
        """
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._url.hostname, self._url.port)
        reader, writer = self._streams
        head = (
            f"POST {self._url.path} HTTP/1.1\r\nHost: {self._url.netloc}\r\n"
            f"Content-Type: {self._kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                writer.write(head.encode() + body)
                status, headers = await read_head(reader)
                content = await _read_content(reader, headers)
        except BaseException:
            self.close()
            raise
        if headers.get("connection", "").lower() == "close":
            self.close()
        return status, headers, content

    def close(self) -> None:
        """Drop the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Read status and headers, their names in lower case."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = (line.partition(":") for line in lines[1:] if line)
    return int(lines[0].split()[1]), {name.lower(): value.strip() for name, _, value in headers}


async def _read_content(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    content = bytearray()
    while size := int(await reader.readuntil(b"\r\n"), 16):
        content += (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)
    return bytes(content)


@dataclass
class Load:
    """What all callers share: the requests left to number, the window, and what came back in it.

    `edge_limit_s` is the longest wait for an answer to open or close the window with.
    """

    url: SplitResult
    kind: str
    body: Callable[[int], bytes]
    numbers: Iterator[int]
    edge_limit_s: float = 10
    outcome: Outcome = field(default_factory=Outcome)
    counting: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)
    _edge: Callable[[], None] | None = None

    async def run(self, callers: int, *, warm_up_s: float, warm_up_limit_s: float, window_s: float) -> Outcome:
        """Warm up, count for `window_s`, tell, and let the answers under way arrive."""
        answered = [asyncio.Event() for _ in range(callers)]
        async with asyncio.TaskGroup() as group:
            for first_answer in answered:
                group.create_task(self._call(first_answer))
            await asyncio.sleep(warm_up_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(warm_up_limit_s - warm_up_s):
                    await asyncio.gather(*(event.wait() for event in answered))
            await self._at_next_answer(self._open)
            await asyncio.sleep(window_s)
            await self._at_next_answer(self._close)
            self.over.set()
            tell(self.outcome.as_json())
        return self.outcome

    async def _call(self, first_answer: asyncio.Event) -> None:
        caller = Caller(self.url, self.kind)
        while not self.over.is_set():
            body = self.body(next(self.numbers))
            sent_s, content = time.perf_counter(), b""
            headers: dict[str, str] = {}
            try:
                status, headers, content = await caller.send(body)
            except (OSError, EOFError, asyncio.LimitOverrunError, ValueError) as error:
                status, content = NO_ANSWER, repr(error).encode()
            if self._edge is not None and status != REFUSED:
                self._edge()
            if self.counting:
                self.outcome.add(status, (time.perf_counter() - sent_s) * 1000)
            first_answer.set()
            if status != OK:
                if status != REFUSED and not self.outcome.first_failure:
                    self.outcome.first_failure = f"{status}: {content.decode(errors='replace')[:SHOWN_CHARACTERS]}"
                await self._pause(float(headers.get("retry-after", FAILURE_PAUSE_S)))
        caller.close()

    async def _at_next_answer(self, change: Callable[[], None]) -> None:
        """Open or close the window at the moment of an answer, before it is counted: it then holds whole batches."""
        changed = asyncio.Event()

        def act() -> None:
            self._edge = None
            change()
            changed.set()

        self._edge = act
        try:
            async with asyncio.timeout(self.edge_limit_s):
                await changed.wait()
        except TimeoutError:
            act()

    def _open(self) -> None:
        tell({"event": "opened"})
        self._opened_s, self._cpu_s, self.counting = time.perf_counter(), time.process_time(), True

    def _close(self) -> None:
        self.counting = False
        self.outcome.window_s = time.perf_counter() - self._opened_s
        self.outcome.client_cpu_s = time.process_time() - self._cpu_s
        tell({"event": "closed"})

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), seconds)


def main() -> None:
    """Run the callers that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("url", type=urlsplit)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--callers", type=int, required=True)
    parser.add_argument("--warm-up-s", type=float, required=True, help="least time before the window")
    parser.add_argument("--warm-up-limit-s", type=float, required=True, help="most time before the window")
    parser.add_argument("--window-s", type=float, required=True)
    parser.add_argument("--body", choices=("multipart", "data-uri"), default="multipart")
    parser.add_argument("--form", type=json.loads, default={}, help="further fields, as JSON")
    parser.add_argument("--bytes", choices=("new", "same"), default="new", help="of the picture, in each request")
    arguments = parser.parse_args()
    picture = VariedPicture(arguments.picture.read_bytes(), secrets.token_hex(8))
    numbers = iter(lambda: 0, 1) if arguments.bytes == "same" else count()
    body = body_maker(arguments.body, picture, arguments.form)
    load = Load(arguments.url, content_type(arguments.body), body, numbers)
    asyncio.run(
        load.run(
            arguments.callers,
            warm_up_s=arguments.warm_up_s,
            warm_up_limit_s=arguments.warm_up_limit_s,
            window_s=arguments.window_s,
        )
    )


if __name__ == "__main__":
    main()
