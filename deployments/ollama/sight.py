"""Who looks at a picture: whether a model can, whether it is quick about it, and what is done where looking fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass

from deployments.ollama import jpeg
from deployments.ollama.client import OllamaClient, Said
from deployments.ollama.failures import (
    BrokenOff,
    CannotDo,
    ContextTooSmall,
    ErrorTold,
    ModelUnfit,
    OllamaFailure,
    SaidNothing,
    ThoughtOnly,
)
from deployments.ollama.pool import Server, Turn
from deployments.ollama.settings import OllamaSettings
from deployments.types import PromptRequest

QUICK_GPU_SHARE = 0.5
"""Of a model, on a GPU, from which it is quick: a CPU takes a minute for a picture (findings/ollama.md)."""

HOLDS_S = 5.0
"""How long it is taken for granted what a server's model can and where it is."""

SMALLER_PX = 512
"""Longest side of the picture that is shown where the context is too small for the larger one."""

PLAIN_SEER = "gemma3:4b"
"""What is named where no model looks."""

OF_THE_LOOK = (ErrorTold, BrokenOff, CannotDo, SaidNothing, ThoughtOnly)
"""What a picture may be to blame for."""


@dataclass(frozen=True, slots=True)
class Sight:
    """Whether a server's model can look, and whether `auto` has it look; `why` is a sentence, `remedy` may be one."""

    can: bool
    auto: bool
    why: str
    remedy: str = ""

    def told(self) -> str:
        """Say for a person what `auto` does."""
        return f"auto {'looks' if self.auto else 'does not look'}: {self.why} {self.remedy}".rstrip()


class Sights:
    """Tells of each server and model how well it looks; asked once in `HOLDS_S`, or anew where there was no answer.

    Args:
        settings: what `auto` may do.
    """

    def __init__(self, settings: OllamaSettings) -> None:
        self._settings = settings
        self._known: dict[tuple[str, str], tuple[float, Sight]] = {}
        """Of host and model: until when it holds (event loop time), and what was told."""

    async def of(self, client: OllamaClient, model: str) -> Sight:
        """Tell how well a server's model looks; a server that does not answer looks at nothing."""
        now_s, key = asyncio.get_running_loop().time(), (client.host, model)
        if key in self._known and self._known[key][0] > now_s:
            return self._known[key][1]
        try:
            sight = await self._asked(client, model)
        except OllamaFailure as failure:
            return Sight(can=False, auto=False, why=failure.reason, remedy=failure.remedy)
        self._known[key] = (now_s + HOLDS_S, sight)
        return sight

    def forget(self, client: OllamaClient, model: str) -> None:
        """Ask anew when that is wanted next."""
        self._known.pop((client.host, model), None)

    async def _asked(self, client: OllamaClient, model: str) -> Sight:
        if not await client.has.sees(model):
            pull = self._settings.pull_command(client.host, PLAIN_SEER)
            told = "does not see pictures" if client.has.known(model) else "may not see pictures: nobody tells"
            remedy = f"Run: {pull}, and set ollama.vision_model to {PLAIN_SEER}"
            return Sight(can=False, auto=False, why=f"{model} {told}.", remedy=remedy)
        share = await client.has.gpu_share(model)
        if share is None:
            quick, where = False, "has not been loaded yet, so that nobody knows whether a GPU has it"
        else:
            quick, where = share >= QUICK_GPU_SHARE, f"sees pictures, and {share:.0%} of it is on a GPU"
        auto = quick or self._settings.vision_on_cpu
        return Sight(
            can=True,
            auto=auto,
            why=f"{model} {where}.",
            remedy="" if auto else "ollama.vision_on_cpu, or vision=on in a request, has it look all the same.",
        )


class Look:
    """What becomes of one request's picture: who is to look at it, how large it is, and why nobody did.

    Args:
        request: the picture, and what its caller wants.
        settings: which models there are.
    """

    def __init__(self, request: PromptRequest, settings: OllamaSettings) -> None:
        self._request = request
        self._settings = settings
        self.model = settings.chosen(request.options.model)
        """Who writes."""
        self.jpeg = b""
        """What is to be looked at; empty once the prompt is to be written without."""
        self.at: Sequence[Server] = ()
        """The servers that may be asked; empty: all."""
        self.warnings: tuple[str, ...] = ()
        """What its caller should know."""

    async def decide(self, servers: Sequence[Server], sights: Sights) -> None:
        """Find the servers that are to look: with `auto` those that are quick, with `on` those that can."""
        vision, picture = self._request.options.vision, self._request.jpeg
        if vision == "off" or not picture:
            return
        looker = self._settings.looker(self._request.options.model)
        told = await asyncio.gather(*(sights.of(server.client, looker) for server in servers))
        able = [server for server, sight in zip(servers, told, strict=True) if sight.can]
        quick = [server for server, sight in zip(servers, told, strict=True) if sight.auto]
        if at := quick or (able if vision == "on" else []):
            self.model, self.jpeg, self.at = looker, picture, at
        elif vision == "on":
            self._without(f"{told[0].why} {told[0].remedy}")

    def goes_on(self, server: Server, failure: OllamaFailure, *, another: bool) -> bool:
        """Say how to go on where a look has failed before its first token: elsewhere, or text only.

        Returns:
            Whether the picture is still to be looked at.
        """
        if isinstance(failure, ContextTooSmall) and (less := jpeg.smaller(self.jpeg, SMALLER_PX)):
            self.jpeg, self.at = less, (server,)
            return True
        if another:
            return True
        if isinstance(failure, ModelUnfit):
            self.model = self._settings.chosen(self._request.options.model)
        # A text heals the runner that a picture has got stuck.
        self.at = (server,) if isinstance(failure, OF_THE_LOOK) else ()
        self._without(str(failure))
        return False

    def _without(self, why: str) -> None:
        self.jpeg = b""
        self.warnings = (f"No model looked at the picture: {why}",)


async def looked(said: AsyncGenerator[Said, None], turn: Turn) -> AsyncGenerator[Said, None]:
    """Pass on an answer to a picture; who leaves before its first piece leaves the place held until that has come.

    A server ends a look that it has begun, whoever has left, and what it is asked meanwhile waits for that.
    """
    first = asyncio.ensure_future(anext(said, None))
    try:
        piece = await asyncio.shield(first)
    except asyncio.CancelledError:
        turn.until = asyncio.create_task(_ended(first, said))
        raise
    turn.looked()
    async with aclosing(said):
        while piece is not None:
            yield piece
            piece = await anext(said, None)


async def _ended(first: asyncio.Future[Said | None], said: AsyncGenerator[Said, None]) -> None:
    with suppress(OllamaFailure):
        await first
    await said.aclose()
