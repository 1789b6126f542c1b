"""An Ollama server without a model: real HTTP, what two real versions answer to whom, and failures to order.

That it answers as they do is shown against their recordings (tests/deployments/ollama/test_fake_ollama.py).
It runs in a thread with a loop of its own, so that sync tests, async tests and other processes can all talk to it.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from tests.support.fake_answers import Answer, Exchange, Gate, Pull, fetch, say
from tests.support.fake_models import DEFAULT_CONTEXT, Model, Version
from tests.support.fake_requests import prompt_tokens, refuse_malformed, refuse_unable
from tests.support.fake_runner import Refusal, Runner, pictures_of
from tests.support.ollama_wire import LONG_AGO, Json, Reply, listed_name

__all__ = ["Answer", "Exchange", "FakeOllama", "Pull"]

START_LIMIT_S = 10.0
PATIENCE_S = 30.0

T = TypeVar("T")


class FakeOllama:
    """`with FakeOllama(tokens=["a", " cat"]) as server:` and send requests to `server.url`.

    `answer`, `pull` and `models` may be changed while it runs. `start` and `stop` may alternate: the port stays.

    Args:
        answer: what chats get.
        tokens: in place of `answer`, short for `Answer(tokens=tokens)`.
        models: what is there and writes; a name without a tag is `:latest`.
        embedders: what is there and does not write.
        thinkers: those of the models that think.
        seers: those of the models that have a picture tower.
        port: 0 takes a free one.
        parallel: OLLAMA_NUM_PARALLEL; further requests wait in silence.
        max_queue: OLLAMA_MAX_QUEUE, how many may.
        version: whose ways it has.
        gpu_share: how much of a loaded model is on a GPU, 0 to 1.
        look_s: how long a look at a picture takes.
    """

    def __init__(
        self,
        answer: Answer | None = None,
        *,
        tokens: Sequence[str | bytes] = ("A", " fox"),
        models: Sequence[str] = ("mistral:latest",),
        embedders: Sequence[str] = (),
        thinkers: Sequence[str] = (),
        seers: Sequence[str] = (),
        pull: Pull | None = None,
        port: int = 0,
        parallel: int = 1,
        max_queue: int = 512,
        version: Version = "0.33.0",
        gpu_share: float = 0.0,
        look_s: float = 0.0,
        address: str = "127.0.0.1",
    ) -> None:
        self.answer = answer or Answer(tokens)
        self.pull = pull or Pull()
        self.models = [listed_name(name) for name in models]
        self.embedders = [listed_name(name) for name in embedders]
        self.thinkers = [listed_name(name) for name in thinkers]
        self.seers = [listed_name(name) for name in seers]
        self.version: Version = version
        self.gpu_share = gpu_share
        self.look_s = look_s
        self.port = port
        self.exchanges: list[Exchange] = []
        self._parallel, self._max_queue = parallel, max_queue
        self._loaded: dict[str, int] = {}
        self._leaving: set[str] = set()
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

    @property
    def held(self) -> int:
        """How many answers wait for `release()`."""
        return self._gate.waiting

    @property
    def longest_wait_s(self) -> float:
        """How long at most a request waited for its place."""
        return self._runner.longest_wait_s

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

    def kill_runner(self) -> None:
        """End what is being written and looked at, as when the runner's process dies; the server lives."""
        self._call(self._kill_runner())

    async def _kill_runner(self) -> None:
        self._runner.kill()

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
        self._gate = Gate(self._note)
        self._runner = Runner(self.version, parallel=self._parallel, max_queue=self._max_queue, look_s=self.look_s)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._accept, self._address, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _hang_up(self) -> None:
        self._runner.close()
        # A server that is closed loses what it has just accepted: first nothing more is accepted, and all of it ends.
        for listening in self._server.sockets:
            self._loop.remove_reader(listening.fileno())
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        self._server.close()
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Here, since a task that is cancelled before its first step does nothing; what is closed already stays so.
        task.add_done_callback(lambda _: writer.transport.abort())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        whole = False
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, path, _ = head.split(" ", 2)
            length = re.search(r"^content-length: *(\d+)", head, re.IGNORECASE | re.MULTILINE)
            content = await reader.readexactly(int(length[1]) if length else 0)
            exchange = Exchange(path, json.loads(content) if content else {})
            self.exchanges.append(exchange)
            self._note()
            await self._until_closed(self._respond(method, exchange, Reply(writer)), reader, exchange)
            whole = exchange.finished
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._note()
            if whole:
                writer.close()
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

    def _model(self, name: str) -> Model | None:
        known = listed_name(name)
        if known in self.embedders:
            return Model(known, ["embedding"])
        if known not in self.models:
            return None
        sees, thinks = known in self.seers, known in self.thinkers
        return Model(known, ["completion", *["vision"] * sees, *["thinking"] * thinks])

    async def _respond(self, method: str, exchange: Exchange, reply: Reply) -> None:
        try:
            await self._answer(method, exchange, reply)
        except Refusal as refusal:
            if reply.streaming:
                await reply.lines(refusal.content)
                await reply.end()
            else:
                await reply.json(refusal.status, refusal.content)

    async def _answer(self, method: str, exchange: Exchange, reply: Reply) -> None:
        body = exchange.body
        match exchange.path:
            case "/":
                await reply.whole(200, b"" if method == "HEAD" else b"Ollama is running", "text/plain; charset=utf-8")
            case "/api/version":
                await reply.json(200, {"version": self.version})
            case "/api/tags":
                there = filter(None, map(self._model, [*self.models, *self.embedders]))
                await reply.json(200, {"models": [model.listed(self.version) for model in there]})
            case "/api/ps":
                running = [(self._model(name), context) for name, context in self._loaded.items()]
                entries = [model.running(self.gpu_share, context) for model, context in running if model]
                # What was unloaded is listed for a moment more: here, once.
                self._loaded = {name: at for name, at in self._loaded.items() if name not in self._leaving}
                await reply.json(200, {"models": entries})
            case "/api/show":
                model = self._model(body["model"])
                if model is None:
                    raise Refusal(404, f"model '{listed_name(body['model'])}' not found")
                await reply.json(200, model.shown())
            case "/api/pull":
                await fetch(self.pull, reply, self._gate, lambda: self._add(body["model"]))
            case "/api/chat":
                await self._chat(exchange, reply)
            case _:
                await reply.whole(404, b"404 page not found", "text/plain")

    async def _chat(self, exchange: Exchange, reply: Reply) -> None:
        body = exchange.body
        refuse_malformed(body)
        pictures = pictures_of(body)
        model = self._model(body["model"])
        if model is None:
            raise Refusal(404, f"model '{body['model']}' not found")
        if not body.get("messages"):
            await self._load(model, body, reply)
            return
        refuse_unable(body, model)
        if self.answer.status != 200:
            raise Refusal(self.answer.status, self.answer.error)
        answer = self.answer  # of this moment, whatever is ordered while it waits for its place
        context = model.context((body.get("options") or {}).get("num_ctx"))
        self._loaded[model.name] = context
        self._leaving.discard(model.name)
        looked_at = self._runner.seen(pictures, tower=model.sees)
        tokens = prompt_tokens(body, len(looked_at))
        if tokens > context:  # cut in silence
            tokens = context
            if self.version == "0.33.0":
                answer, tokens = replace(answer, tokens=(), thought=()), context // 2 + 2
        if body.get("think") is False or not model.thinks:
            answer = replace(answer, thought=())

        async def write() -> None:
            async with self._runner.place(str(body["messages"][0]), looked_at):
                await say(exchange, reply, answer, self._gate, self._note, prompt_tokens=tokens)

        await self._runner.unless_killed(write())

    async def _load(self, model: Model, body: Json, reply: Reply) -> None:
        if unload := body.get("keep_alive") in (0, "0"):
            self._leaving.add(model.name)
        else:
            self._leaving.discard(model.name)
            self._loaded.setdefault(model.name, DEFAULT_CONTEXT)
        reason = "unload" if unload else "load"
        message = {"role": "assistant", "content": ""}
        told = {"model": body["model"], "created_at": LONG_AGO, "message": message, "done": True, "done_reason": reason}
        await reply.json(200, told)

    def _add(self, name: str) -> None:
        self.models = [*dict.fromkeys([*self.models, listed_name(name)])]
        self._note()
