"""Each cell of docs/reliability.md's table of where Ollama fails, and how; in virtual time."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.ollama.settings import OllamaSettings
from deployments.ollama.writer import PromptWriter
from deployments.types import PromptComplete, PromptDelta, PromptRestart
from tests.deployments.ollama.samples import MODEL, MOUNTAINS, collected, outcome, text_of
from tests.deployments.ollama.virtual_time import run_virtually

DOCUMENT = Path(__file__).parents[3] / "docs" / "reliability.md"
FOX = "A red fox that stands in deep snow under a low sun."
BEGUN = "The first try, of which forty characters and more are shown"
NONSENSE = b"<html>\xff\x00 welcome</html>\n"
TOKEN_GAP_S = 0.05

PLACES = ("tags", "show", "first", "midway", "retry")
FAULTS = ("dies", "hangs", "sends nonsense")


def table() -> dict[tuple[str, str], str]:
    """Give what the document promises of each place, by fault, and of health."""
    rows = DOCUMENT.read_text().partition("### Where Ollama fails")[2].partition("\n## ")[0]
    cells = [re.split(r" *\| *", row.strip("| ")) for row in rows.splitlines() if row.startswith("|")]
    heads, told = cells[0][1:], cells[2:]
    assert (heads, len(told)) == ([*FAULTS, "health"], len(PLACES))
    return {
        (place, head): cell
        for place, row in zip(PLACES, told, strict=True)
        for head, cell in zip(heads, row[1:], strict=True)
    }


class FailingOllama(httpx.AsyncBaseTransport):
    """An old server, which shows what a model can; it fails at one place, in one way."""

    def __init__(self, place: str, fault: str) -> None:
        self._place = place
        self._fault = fault
        self.chats = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        at = request.url.path.rpartition("/")[2]
        if at == self._place:
            return httpx.Response(200, content=self._failing())
        match at:
            case "tags":
                return httpx.Response(200, json={"models": [{"model": "mistral:latest", "digest": "f5"}]})
            case "show":
                return httpx.Response(200, json={"capabilities": ["completion"]})
            case "chat":
                self.chats += 1
                return httpx.Response(200, content=self._chat(self.chats == 1))
        return httpx.Response(404, text="404 page not found")

    async def _chat(self, first: bool) -> AsyncIterator[bytes]:
        if first and self._place in ("midway", "retry"):
            yield _line(BEGUN)
            await asyncio.sleep(TOKEN_GAP_S)
            if self._place == "retry":
                raise httpx.ReadError("")
        if first if self._place in ("first", "midway") else self._place == "retry":
            async for nothing in self._failing():
                yield nothing
        yield _line(FOX) + _line("", done=True, done_reason="stop")

    async def _failing(self) -> AsyncIterator[bytes]:
        match self._fault:
            case "dies":
                raise httpx.ReadError("")
            case "hangs":
                await asyncio.Event().wait()
        yield NONSENSE


def _line(content: str, **more: Any) -> bytes:
    return json.dumps({"message": {"role": "assistant", "content": content}, "done": False, **more}).encode() + b"\n"


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("place", PLACES)
def test_wherever_ollama_fails_the_caller_gets_what_the_document_promises(place: str, fault: str) -> None:
    told = table()
    server = FailingOllama(place, fault)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        writer = PromptWriter(OllamaSettings(), required=False, transport=server)
        began_s = loop.time()
        events = await collected(writer.write(MOUNTAINS))
        took_s = loop.time() - began_s
        assert (await writer.status()).state == told[place, "health"]
        await writer.close()

        complete = outcome(events)
        promised, _, later = told[place, fault].partition(", ")
        assert complete.source == {"its prompt": "ollama", "a composed prompt": "template"}[promised]
        if promised == "its prompt":
            assert complete == PromptComplete(FOX, "ollama", model=MODEL)
        else:
            assert "Ollama" in complete.warnings[0]
        assert text_of(events) == complete.prompt
        assert (server.chats == 2) == (later == "begun again" or place == "retry")
        shown_first = any(isinstance(event, PromptDelta) and event.text.startswith(BEGUN[:10]) for event in events)
        assert (
            shown_first == any(isinstance(event, PromptRestart) for event in events) == (place in ("midway", "retry"))
        )
        waited_s = float(later.removesuffix(" s later")) if later.endswith("later") else 0.0
        assert took_s == pytest.approx(waited_s, abs=2 * TOKEN_GAP_S)

    run_virtually(scenario())
