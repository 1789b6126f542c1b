"""One line in front of all Ollama servers: whoever is next goes to the least busy of those that work.

Ollama itself would let any number wait, and knows nothing of other servers.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cachetools import LRUCache

from deployments.errors import QueueFull
from deployments.ollama.client import OllamaClient
from deployments.ollama.pull import ModelPull

REMEMBERED_PICTURES = 256
"""Of so many it is known which server saw them last: more than a server keeps what it computed of."""

logger = logging.getLogger("image_analyzer.ollama")


def _nobody_asks(before: int) -> None:
    """Tell nobody the place in line."""


@dataclass(eq=False, slots=True)
class _Place:
    """One in line."""

    given: asyncio.Future[Server]
    model: str
    picture: str
    at: Sequence[Server]
    looks: bool
    tell: Callable[[int], None]
    told: int = 0


@dataclass(eq=False, slots=True)
class Server:
    """One Ollama server, and how it does."""

    client: OllamaClient
    pull: ModelPull
    writing: int = 0
    looking: int = 0
    """How many of those look at a picture, or wait for that."""
    last_turn: int = 0
    """The number of its latest turn, counted over all servers: the idle take turns."""
    rests_until_s: float = 0.0
    """Event loop time."""


@dataclass(eq=False, slots=True)
class Turn:
    """A place at a server; a place for looking too, until `looked`."""

    server: Server
    looked: Callable[[], None]
    """Gives back the place for looking, if there is one."""
    until: asyncio.Future[None] | None = None
    """Where that is set, the place is kept until then, though its holder has left."""


class ServerPool:
    """Gives turns at the servers, first come first served.

    A server that failed is left alone for `rest_s` while another works; where none does, each is tried as if it had
    not failed, so that a lone server is found again by the first request after it is back.

    Args:
        servers: at least one.
        max_parallel: turns at one server at a time.
        max_looking: of those, for pictures that have not been looked at yet.
        max_waiting: how many may stand in line.
        rest_s: how long a server that failed is left alone.
        retry_after_s: what a caller who finds the line full is told to wait.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        *,
        max_parallel: int,
        max_waiting: int,
        rest_s: float,
        retry_after_s: int,
        max_looking: int = 1,
    ) -> None:
        self.servers = tuple(servers)
        self._max_parallel = max_parallel
        self._max_looking = max_looking
        self._max_waiting = max_waiting
        self._rest_s = rest_s
        self._retry_after_s = retry_after_s
        self._turns = 0
        self._kept: set[asyncio.Future[None]] = set()
        self._line: deque[_Place] = deque()
        self._saw: LRUCache[str, Server] = LRUCache(REMEMBERED_PICTURES)

    @property
    def writing(self) -> int:
        """How many have their turn."""
        return sum(server.writing for server in self.servers)

    @property
    def working(self) -> Sequence[Server]:
        """Those that are not left alone; where all are, each is as good as another."""
        return self._awake() or self.servers

    @property
    def looking(self) -> int:
        """How many of those look at a picture."""
        return sum(server.looking for server in self.servers)

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._line)

    @asynccontextmanager
    async def turn(
        self,
        *,
        again: bool = False,
        model: str = "",
        picture: str = "",
        at: Sequence[Server] = (),
        looks: bool = False,
        tell: Callable[[int], None] = _nobody_asks,
    ) -> AsyncIterator[Turn]:
        """Wait in line, then hold a place at a server until the block ends. Cancelled while waiting, none is held.

        Args:
            model: a server that lacks it is asked only where all do.
            again: the server of the turn before failed; the line is not for whoever has stood in it already.
            picture: goes to the server that saw it last, if that works and has a place: it may have kept what it
                computed of it. Empty where that is not known.
            at: the servers that may be asked; empty: all.
            looks: wait for a place for looking too.
            tell: takes how many have to end before this one begins, whenever that changes: those ahead in the line and
                one of those who have their turn; 0 once it begins. Not called where a place is free at once.

        Raises:
            QueueFull: at once, when the line is full.
        """
        place = _Place(asyncio.get_running_loop().create_future(), model, picture, at, looks, tell)
        if not again and len(self._line) >= self._max_waiting and self._free(place) is None:
            raise QueueFull(
                f"{self._max_waiting} requests already wait for a prompt, and no more may; "
                f"try again in {self._retry_after_s} s.",
                retry_after_s=self._retry_after_s,
            )
        if again:
            self._saw.pop(picture, None)
        self._line.insert(0 if again else len(self._line), place)
        self._let_in()
        try:
            server = await place.given
        except asyncio.CancelledError:
            if place in self._line:
                self._line.remove(place)
                self._tell()
            elif not place.given.cancelled():
                self._leave(Turn(place.given.result(), functools.partial(self._looked, place)))
            raise
        turn = Turn(server, functools.partial(self._looked, place))
        try:
            yield turn
        finally:
            if turn.until is None:
                self._leave(turn)
            else:
                self._kept.add(turn.until)
                turn.until.add_done_callback(self._kept.discard)
                turn.until.add_done_callback(lambda _: self._leave(turn))

    def rest(self, server: Server, reason: str, model: str = "", at: Sequence[Server] = ()) -> bool:
        """Leave a server that failed alone for a while; tells whether another works, and has the model, of those `at`.

        All are meant where none is given.
        """
        loop = asyncio.get_running_loop()
        server.rests_until_s = loop.time() + self._rest_s
        another = bool(self._awake())
        if another:
            logger.warning("%s is left alone for %g s: %s", server.client.host, self._rest_s, reason)
            loop.call_at(server.rests_until_s, self._let_in)
        self._let_in()
        return any(server in self._awake() for server in self._holders(model) if not at or server in at)

    def works(self, server: Server) -> None:
        """End a server's rest: it has just written a prompt."""
        server.rests_until_s = 0.0

    def _awake(self) -> list[Server]:
        now_s = asyncio.get_running_loop().time()
        return [server for server in self.servers if server.rests_until_s <= now_s]

    def _holders(self, model: str) -> list[Server]:
        return [server for server in self.servers if not server.client.has.lacks(model)]

    def _free(self, place: _Place) -> Server | None:
        fit = [server for server in self._holders(place.model) or self.servers if not place.at or server in place.at]
        fit = fit or list(place.at)
        working = [server for server in self._awake() if server in fit]
        free = [
            server
            for server in working or fit
            if server.writing < self._max_parallel and (not place.looks or server.looking < self._max_looking)
        ]
        saw_it = self._saw.get(place.picture)
        if saw_it in working and saw_it in free:
            return saw_it
        return min(free, key=lambda server: (server.writing, server.last_turn), default=None)

    def _let_in(self) -> None:
        for place in list(self._line):
            # Whoever waits for a model that a busy server alone has does not keep others from the free ones.
            if place.given.done():
                self._line.remove(place)
            elif (server := self._free(place)) is not None:
                self._line.remove(place)
                server.writing += 1
                server.looking += place.looks
                self._turns += 1
                server.last_turn = self._turns
                if place.picture:
                    self._saw[place.picture] = server
                place.given.set_result(server)
                if place.told:
                    place.tell(0)
        self._tell()

    def _tell(self) -> None:
        for before, place in enumerate(self._line, start=1):
            if place.told != before:
                place.told = before
                place.tell(before)

    def _looked(self, place: _Place) -> None:
        if place.looks:
            place.looks = False
            place.given.result().looking -= 1
            self._let_in()

    def _leave(self, turn: Turn) -> None:
        turn.server.writing -= 1
        turn.looked()
        self._let_in()
