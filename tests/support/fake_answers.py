"""What a fake Ollama says: the tokens of an answer, the progress of a pull, at the pace and with the end ordered."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tests.support.fake_models import MODEL_BYTES
from tests.support.ollama_wire import Json, Reply, escaped, line

LOOP_TOKENS = 30
"""After so many of the same in a row an answer ends without a last line."""

Ending = Literal["done", "error", "broken_line", "cut", "quiet", "stall", "endless"]


@dataclass(frozen=True)
class Answer:
    """What `/api/chat` sends, always as a stream.

    `tokens`: `bytes` go out as they are, in place of valid UTF-8.
    `thought`: comes first, from a model that thinks and is not told not to.
    `interval_s`: before every token, on a schedule that a late token does not move.
    `hold_at`: the index of the token that waits for `release()`.
    `stamped`: each token is followed by the `time.monotonic_ns()` at which it is handed to the socket, and a blank.
    `status`: an HTTP status other than 200 answers with `error` alone.
    `ending`, once the tokens are out: `done` the last line, `error` an error line, `broken_line` half a JSON line,
    `cut` the connection torn down, `quiet` a proper end without `done: true`, `stall` nothing at all, `endless` the
    tokens again for ever.
    """

    tokens: Sequence[str | bytes] = ()
    thought: Sequence[str] = ()
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
    """Where what is held waits, in the order of its coming; closed at first. `note` is called when one has come."""

    def __init__(self, note: Callable[[], None]) -> None:
        self._is_open = False
        self._note = note
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def passage(self) -> None:
        """Wait until the gate opens."""
        if not self._is_open:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            self._note()
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


async def say(
    exchange: Exchange, reply: Reply, answer: Answer, gate: Gate, note: Callable[[], None], *, prompt_tokens: int
) -> None:
    """Send an answer, as a stream or whole; `note` is called after each token."""
    loop = asyncio.get_running_loop()
    model, reason = exchange.body["model"], "stop"
    pieces: list[tuple[str, str | bytes]] = [("thinking", token) for token in answer.thought]
    pieces += [("content", token) for token in answer.tokens]
    limit = (exchange.body.get("options") or {}).get("num_predict", -1)
    if answer.ending != "endless" and 0 < limit < len(pieces):
        pieces, reason = pieces[:limit], "length"
    whole = exchange.body.get("stream") is False
    index, due_s, sent, repeated = 0, loop.time(), b"", 0
    while index < len(pieces) or (answer.ending == "endless" and pieces):
        if index == answer.hold_at:
            await gate.passage()
            due_s = loop.time()
        due_s += answer.interval_s
        await asyncio.sleep(due_s - loop.time())
        part, token = pieces[index % len(pieces)]
        content = token if isinstance(token, bytes) else escaped(token)
        if answer.stamped:
            content += b"%d " % time.monotonic_ns()
        if not whole:
            await reply.piece(line(model, content, field=part))
        exchange.sent_at_s.append(time.monotonic())
        note()
        sent, repeated = content, repeated + 1 if content == sent else 1
        if repeated == LOOP_TOKENS:
            await reply.end()
            return
        index += 1
    if answer.hold_at == len(pieces):
        await gate.passage()
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
            figures: Json = {"total_duration": lasted_ns, "load_duration": 0}
            figures |= {"prompt_eval_count": prompt_tokens, "prompt_eval_duration": 0}
            figures |= {"eval_count": len(pieces), "eval_duration": lasted_ns}
            last = line(model, b"", done=True, done_reason=reason, **figures)
            if whole:
                await reply.whole(200, _joined(pieces, json.loads(last)))
                return
            await reply.piece(last)
    await reply.end()


async def fetch(plan: Pull, reply: Reply, gate: Gate, come: Callable[[], None]) -> None:
    """Send the progress of a pull; `come` is called once the model is there."""
    digest = "sha256:" + "f5" * 32
    layer = {"status": f"pulling {digest[7:19]}", "digest": digest, "total": MODEL_BYTES}
    await reply.lines({"status": "pulling manifest"})
    if plan.error:
        await reply.lines({"error": plan.error})
    else:
        await reply.lines(layer)
        for step in range(plan.steps):
            if step == plan.hold_at:
                await gate.passage()
            await reply.lines(layer | {"completed": MODEL_BYTES * (step + 1) // plan.steps})
        come()
        statuses = ("verifying sha256 digest", "writing manifest", "success")
        await reply.lines(*({"status": status} for status in statuses))
    await reply.end()


def _joined(pieces: Sequence[tuple[str, str | bytes]], last: Json) -> bytes:
    """Give an answer whole that was not to be streamed."""
    for part, token in pieces:
        text = token.decode() if isinstance(token, bytes) else token
        last["message"][part] = last["message"].get(part, "") + text
    return json.dumps(last).encode()
