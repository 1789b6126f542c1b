"""Models that think: what they are told, and that no thought reaches a caller."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from deployments.ollama.settings import OllamaSettings
from deployments.ollama.writer import PromptWriter
from deployments.types import PromptComplete
from tests.deployments.ollama.samples import MODEL, MOUNTAINS, collected, outcome

FOX = "A red fox that stands in deep snow under a low sun."
THOUGHT = "The caller wants a fox."

Message = dict[str, str]


class ThinkingOllama(httpx.AsyncBaseTransport):
    """A server whose model can do what is listed, and says one script after another, each a list of messages."""

    def __init__(self, *answers: Sequence[Message], capabilities: Sequence[str] | None = ("completion", "thinking")):
        self._answers = list(answers)
        self._capabilities = capabilities
        self.asked: list[dict[str, Any]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/tags":
            model = {"model": "mistral:latest", "digest": "f5"}
            listed = model if self._capabilities is None else model | {"capabilities": self._capabilities}
            return httpx.Response(200, json={"models": [listed]})
        if request.url.path == "/api/show":
            return httpx.Response(404, json={"error": "not here"})
        self.asked.append(json.loads(request.content))
        said = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        lines: list[dict[str, Any]] = [{"message": {"role": "assistant", "content": "", **part}} for part in said]
        lines[-1] |= {"done": True, "done_reason": "stop"}
        return httpx.Response(200, content="".join(json.dumps(line) + "\n" for line in lines))


async def written(server: ThinkingOllama, **settings: Any) -> PromptComplete:
    writer = PromptWriter(OllamaSettings(**settings), required=False, transport=server)
    try:
        events = await collected(writer.write(MOUNTAINS))
    finally:
        await writer.close()
    assert THOUGHT not in str(events)
    return outcome(events)


@pytest.mark.parametrize(
    ("capabilities", "settings", "think", "num_predict"),
    [
        (("completion", "thinking"), {}, False, 150),
        (("completion", "thinking"), {"think": "on"}, True, 150 + 2048),
        (("completion", "thinking"), {"think": "low", "think_tokens": 100}, "low", 250),
        (("completion",), {"think": "on"}, None, 150),
        (None, {"think": "on"}, None, 150),
    ],
    ids=["kept from it", "told to", "a little", "cannot", "unknown"],
)
async def test_only_a_model_that_can_is_told_whether_to_think_and_has_room_for_it(
    capabilities: Sequence[str] | None, settings: dict[str, Any], think: object, num_predict: int
) -> None:
    server = ThinkingOllama([{"thinking": THOUGHT}, {"content": FOX}], capabilities=capabilities)
    assert await written(server, **settings) == PromptComplete(FOX, "ollama", model=MODEL)
    asked = server.asked[0]
    assert (asked.get("think"), asked["options"]["num_predict"]) == (think, num_predict)


def test_a_model_that_always_thinks_is_asked_for_little() -> None:
    assert OllamaSettings(model="gpt-oss:20b").thinking() == "low"


@pytest.mark.parametrize(
    "thought",
    [[{"thinking": THOUGHT}], [{"content": f"<think>{THOUGHT}</think>"}], [{"content": f"<think>{THOUGHT}"}]],
    ids=["as a field", "in the text", "never closed"],
)
async def test_thought_without_a_prompt_is_tried_once_more_with_room_and_then_told(thought: list[Message]) -> None:
    server = ThinkingOllama(thought, [{"thinking": THOUGHT}, {"content": FOX}])
    assert await written(server) == PromptComplete(FOX, "ollama", model=MODEL)
    assert [asked["options"]["num_predict"] for asked in server.asked] == [150, 150 + 2048]
    stubborn = await written(ThinkingOllama(thought))
    assert (stubborn.source, "thought, and came to no answer" in stubborn.warnings[0]) == ("template", True)
