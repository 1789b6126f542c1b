"""The runner inside a fake Ollama: its places and its line, its picture tower, and how it dies.

All as recorded (tests/recordings, `eyes_*` and `fault_*`).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import json
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from typing import Any

from PIL import Image

from tests.support.fake_models import Version
from tests.support.ollama_wire import Json

READS = {"0.33.0": {"JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP"}, "0.24.0": {"JPEG", "MPO", "PNG"}}

RUNNER_DIED = "an error was encountered while running the model: unexpected EOF"
RUNNER_STOPPED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details"
)
NO_TOWER = "Multimodal data provided, but model does not support multimodal requests."
UNREADABLE = "Failed to load image or audio file"


class Refusal(Exception):
    """An answer of another status than 200."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status
        self.content: Json = {"error": error}


def wrapped(status: int, message: str, kind: str) -> Refusal:
    """Refuse as the newer runner does, whose JSON its server wraps in JSON."""
    return Refusal(
        status, json.dumps({"error": {"code": status, "message": message, "type": kind}}, separators=(",", ":"))
    )


def pictures_of(body: Json) -> list[bytes]:
    """Decode the pictures of a chat.

    Raises:
        Refusal: one is not base64, as a data URL or an address is not.
    """
    return [_decoded(text) for message in body.get("messages") or () for text in message.get("images") or ()]


def _decoded(text: str) -> bytes:
    wrong = next((at for at, letter in enumerate(text) if not (letter.isalnum() or letter in "+/=")), None)
    if wrong is not None:
        raise Refusal(400, f"illegal base64 data at input byte {wrong}")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise Refusal(400, f"illegal base64 data at input byte {len(text)}") from error


@lru_cache(maxsize=64)
def _kind(picture: bytes) -> str:
    try:
        with Image.open(io.BytesIO(picture)) as opened:
            opened.load()
            return opened.format or ""
    except (OSError, SyntaxError, ValueError):
        return ""


class Runner:
    """Writes for so many at a time; who comes while it is busy waits in silence.

    Args:
        parallel: OLLAMA_NUM_PARALLEL.
        max_queue: OLLAMA_MAX_QUEUE; so many may wait.
        look_s: what a picture takes that it has not in mind.
    """

    def __init__(self, version: Version, *, parallel: int, max_queue: int, look_s: float) -> None:
        self._version = version
        self._places = asyncio.Semaphore(parallel)
        self._max_queue, self._waiting = max_queue, 0
        self._look_s = look_s
        self._looking: set[asyncio.Task[None]] = set()
        self._start()

    def _start(self) -> None:
        self._stuck = False
        self._in_mind: set[tuple[str, bytes]] = set()
        self._death: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def kill(self) -> None:
        """End whatever it does; the next request meets a new one."""
        death = self._death
        self.close()
        self._start()
        death.set_result(None)

    def close(self) -> None:
        """Look at nothing more."""
        for looking in self._looking:
            looking.cancel()

    async def unless_killed(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what a request asks for.

        Raises:
            Refusal: the runner was killed meanwhile.
        """
        death, working = self._death, asyncio.ensure_future(work)
        try:
            await asyncio.wait({working, death}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise Refusal(500, RUNNER_DIED)
            working.result()
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    def seen(self, pictures: Sequence[bytes], *, tower: bool) -> Sequence[bytes]:
        """Give the pictures that are looked at: none where there is no tower, and the older one does not mind.

        Raises:
            Refusal: it cannot look at one; the older one dies of most of these.
        """
        new = self._version == "0.33.0"
        if pictures and not tower:
            if new:
                raise wrapped(400, NO_TOWER, "invalid_request_error")
            return ()
        for picture in pictures:
            if not new and not picture:
                raise Refusal(
                    500, "Failed to create new sequence: failed to process inputs: received zero length image"
                )
            if _kind(picture) not in READS[self._version]:
                if new:
                    raise wrapped(400, UNREADABLE, "invalid_request_error")
                self.kill()
                raise Refusal(500, RUNNER_STOPPED)
        return pictures

    @asynccontextmanager
    async def place(self, system: str, pictures: Sequence[bytes]) -> AsyncIterator[None]:
        """Wait for a place, look, and hold it until the block ends; where the caller leaves, until the look has ended.

        What is in mind is not looked at again, with the same text before it and until a request without a picture.

        Raises:
            Refusal: too many wait, or it is stuck: the caller of several pictures left while it looked.
        """
        if self._places.locked() and self._waiting >= self._max_queue:
            raise Refusal(503, "server busy, please try again.  maximum pending requests exceeded")
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        looking: asyncio.Task[None] | None = None
        try:
            if not pictures:
                self._stuck, self._in_mind = False, set()
            elif self._stuck:
                raise wrapped(500, "got exception: Chunk not found", "server_error")
            else:
                looking = asyncio.ensure_future(self._look(system, pictures))
                self._looking.add(looking)
                looking.add_done_callback(self._looking.discard)
                await asyncio.shield(looking)
            yield
        finally:
            if looking is None or looking.done():
                self._places.release()
            else:
                looking.add_done_callback(partial(self._nobody_waited, several=len(pictures) > 1))

    def _nobody_waited(self, looking: asyncio.Task[None], *, several: bool) -> None:
        self._stuck = self._stuck or (several and not looking.cancelled())
        self._places.release()

    async def _look(self, system: str, pictures: Sequence[bytes]) -> None:
        for picture in pictures:
            if (system, picture) not in self._in_mind:
                await asyncio.sleep(self._look_s)
                self._in_mind.add((system, picture))
