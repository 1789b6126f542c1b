"""An Ollama server without a model: real HTTP, the real wire format, and failures to order.

It runs in a thread with a loop of its own, so that sync tests, async tests and other processes can all talk to it.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from tests.support.ollama_wire import MODEL_BYTES, Json, Reply, described, escaped, line, listed_name

START_LIMIT_S = 10.0
PATIENCE_S = 30.0

T = TypeVar("T")

Ending = Literal["done", "error", "broken_line", "cut", "quiet", "stall", "endless"]


@dataclass(frozen=True)
class Answer:
    """What `/api/chat` sends, always as a stream.

    `tokens`: `bytes` go out as they are, in place of valid UTF-8.
    `interval_s`: before every token, on a schedule that a late token does not move.
    `hold_at`: the index of the token that waits for `release()`.
    `stamped`: each token is followed by the `time.monotonic_ns()` at which it is handed to the socket, and a blank.
    `status`: an HTTP status other than 200 answers with `error` alone.
    `ending`, once the tokens are out: `done` the last line, `error` an error line, `broken_line` half a JSON line,
    `cut` the connection torn down, `quiet` a proper end without `done: true`, `stall` nothing at all, `endless` the
    tokens again for ever.
    """

    tokens: Sequence[str | bytes] = ()
    interval_s: float = 0.0
    hold_at: int | None = None
    stamped: bool = False
    status: int = 200
    error: str = "an error was encountered while running the model"
    ending: Ending = "done"


@dataclass(frozen=True)
class Pull:
    """What `/api/pull` sends: `steps` equal pieces of one layer; `hold_at` names the one that waits.

    `error` ends it, once the manifest is asked for.
    """

    steps: int = 4
    hold_at: int | None = None
    error: str = ""


@dataclass
class Exchange:
    """One request and what became of it; times are `time.monotonic`, `sent_at_s` one per token."""

    path: str
    body: Json
    came_at_s: float = field(default_factory=time.monotonic)
    sent_at_s: list[float] = field(default_factory=list)
    finished: bool = False
    closed_by_client: bool = False


class Gate:
    """Where what is held waits, in the order of its coming; closed at first."""

    def __init__(self) -> None:
        self._is_open = False
        self._waiting: list[asyncio.Future[None]] = []

    async def passage(self) -> None:
        """Wait until the gate opens."""
        if not self._is_open:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter

    def open(self, spread_s: float) -> None:
        """Let those who wait pass one after another, evenly over `spread_s`, and those who come later at once."""
        self._is_open = True
        waiting, self._waiting = self._waiting, []
        for position, waiter in enumerate(waiting):
            asyncio.get_running_loop().call_later(spread_s * position / len(waiting), _let_pass, waiter)

    def close(self) -> None:
        """Hold who comes from now on."""
        self._is_open = False


def _let_pass(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class FakeOllama:
    """`with FakeOllama(tokens=["a", " cat"]) as server:` and send requests to `server.url`.

    `answer`, `pull` and `models` may be changed while it runs. `start` and `stop` may alternate: the port stays.

    Args:
        answer: what chats get.
        tokens: in place of `answer`, short for `Answer(tokens=tokens)`.
        models: what is there and writes; a name without a tag is `:latest`.
        embedders: what is there and does not write.
        port: 0 takes a free one.
        parallel: OLLAMA_NUM_PARALLEL; further requests wait in silence.
    """

    def __init__(
        self,
        answer: Answer | None = None,
        *,
        tokens: Sequence[str | bytes] = ("A", " fox"),
        models: Sequence[str] = ("mistral:latest",),
        embedders: Sequence[str] = (),
        pull: Pull | None = None,
        port: int = 0,
        parallel: int = 1,
        address: str = "127.0.0.1",
    ) -> None:
        self.answer = answer or Answer(tokens)
        self.pull = pull or Pull()
        self.models = [listed_name(name) for name in models]
        self.embedders = [listed_name(name) for name in embedders]
        self.port = port
        self.exchanges: list[Exchange] = []
        self._parallel = parallel
        self._address = address
        self._changed = threading.Condition()

    @property
    def url(self) -> str:
        """The address to give to a client."""
        return f"http://{self._address}:{self.port}"

    @property
    def chats(self) -> list[Exchange]:
        """The requests to `/api/chat` so far."""
        return [exchange for exchange in self.exchanges if exchange.path == "/api/chat"]

    def __enter__(self) -> FakeOllama:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, from when this returns."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._listen())

    def stop(self) -> None:
        """Tear down every connection and stop listening, as when the process is killed."""
        self._call(self._hang_up())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def release(self, spread_s: float = 0.0) -> None:
        """Let what is held go on, now and later; what waits now, one after another, evenly over `spread_s`."""
        self._loop.call_soon_threadsafe(self._gate.open, spread_s)

    def hold(self) -> None:
        """Hold again what comes from now on."""
        self._loop.call_soon_threadsafe(self._gate.close)

    def wait_until(self, condition: Callable[[FakeOllama], bool], timeout_s: float = 5.0) -> bool:
        """Block until something the server did makes `condition(self)` true."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self), timeout_s)

    async def wait_for_chats(self, count: int) -> None:
        """Wait until so many chats have been asked for."""
        assert await asyncio.to_thread(self.wait_until, lambda server: len(server.chats) >= count, PATIENCE_S)

    async def wait_for_disconnect(self, timeout_s: float = 5.0) -> bool:
        """Wait until a client has closed its connection before the end of its answer."""
        return await asyncio.to_thread(
            self.wait_until, lambda server: any(e.closed_by_client for e in server.exchanges), timeout_s
        )

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(START_LIMIT_S)

    def _note(self) -> None:
        with self._changed:
            self._changed.notify_all()

    async def _listen(self) -> None:
        self._gate = Gate()
        self._places = asyncio.Semaphore(self._parallel)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._accept, self._address, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _hang_up(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        whole = False
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            path = head.split(" ", 2)[1]
            length = re.search(r"^content-length: *(\d+)", head, re.IGNORECASE | re.MULTILINE)
            content = await reader.readexactly(int(length[1]) if length else 0)
            exchange = Exchange(path, json.loads(content) if content else {})
            self.exchanges.append(exchange)
            self._note()
            await self._until_closed(self._respond(exchange, Reply(writer)), reader, exchange)
            whole = exchange.finished
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._note()
            if whole:
                writer.close()
            else:
                writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _until_closed(
        self, work: Coroutine[Any, Any, None], reader: asyncio.StreamReader, exchange: Exchange
    ) -> None:
        working = asyncio.ensure_future(work)
        closed = asyncio.ensure_future(reader.read())
        try:
            await asyncio.wait({working, closed}, return_when=asyncio.FIRST_COMPLETED)
            gone = isinstance(working.exception(), ConnectionResetError | BrokenPipeError) if working.done() else True
            if gone:
                exchange.closed_by_client = True
            else:
                working.result()
                exchange.finished = True
        finally:
            working.cancel()
            closed.cancel()
            await asyncio.gather(working, closed, return_exceptions=True)

    async def _respond(self, exchange: Exchange, reply: Reply) -> None:
        body = exchange.body
        match exchange.path:
            case "/api/tags":
                writers = [described(name, "completion") for name in self.models]
                await reply.json(200, {"models": writers + [described(name, "embedding") for name in self.embedders]})
            case "/api/pull":
                await self._fetch(listed_name(body["model"]), reply)
            case "/api/chat" if listed_name(body["model"]) in self.embedders:
                await reply.json(400, {"error": f'"{body["model"]}" does not support chat'})
            case "/api/chat" if listed_name(body["model"]) not in self.models:
                await reply.json(404, {"error": f"model '{body['model']}' not found"})
            case "/api/chat" if self.answer.status != 200:
                await reply.json(self.answer.status, {"error": self.answer.error})
            case "/api/chat":
                answer = self.answer  # of this moment, whatever is ordered while it waits for its place
                async with self._places:
                    await self._stream(exchange, reply, answer)
            case _:
                await reply.whole(404, b"404 page not found", "text/plain")

    async def _stream(self, exchange: Exchange, reply: Reply, answer: Answer) -> None:
        model, tokens, reason = exchange.body["model"], answer.tokens, "stop"
        limit = (exchange.body.get("options") or {}).get("num_predict", -1)
        if answer.ending != "endless" and 0 < limit < len(tokens):
            tokens, reason = tokens[:limit], "length"
        index, due_s = 0, self._loop.time()
        while index < len(tokens) or (answer.ending == "endless" and tokens):
            if index == answer.hold_at:
                await self._gate.passage()
                due_s = self._loop.time()
            due_s += answer.interval_s
            await asyncio.sleep(due_s - self._loop.time())
            token = tokens[index % len(tokens)]
            content = token if isinstance(token, bytes) else escaped(token)
            if answer.stamped:
                content += b"%d " % time.monotonic_ns()
            await reply.piece(line(model, content))
            exchange.sent_at_s.append(time.monotonic())
            self._note()
            index += 1
        if answer.hold_at == len(tokens):
            await self._gate.passage()
        match answer.ending:
            case "error":
                await reply.lines({"error": answer.error})
            case "broken_line":
                await reply.piece(line(model, b"half")[:40] + b"\n")
            case "cut":
                raise ConnectionAbortedError
            case "stall":
                await asyncio.Event().wait()
            case "done" | "endless":
                lasted_ns = int((time.monotonic() - exchange.came_at_s) * 1e9)
                figures = {"total_duration": lasted_ns, "eval_count": len(tokens), "eval_duration": lasted_ns}
                await reply.piece(line(model, b"", done=True, done_reason=reason, **figures))
        await reply.end()

    async def _fetch(self, name: str, reply: Reply) -> None:
        plan, digest = self.pull, "sha256:" + "f5" * 32
        layer = {"status": f"pulling {digest[7:19]}", "digest": digest, "total": MODEL_BYTES}
        await reply.lines({"status": "pulling manifest"})
        if plan.error:
            await reply.lines({"error": plan.error})
        else:
            await reply.lines(layer)
            for step in range(plan.steps):
                if step == plan.hold_at:
                    await self._gate.passage()
                await reply.lines(layer | {"completed": MODEL_BYTES * (step + 1) // plan.steps})
            self.models = [*dict.fromkeys([*self.models, name])]
            self._note()
            statuses = ("verifying sha256 digest", "writing manifest", "success")
            await reply.lines(*({"status": status} for status in statuses))
        await reply.end()
