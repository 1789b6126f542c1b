"""Models that think: what they are told, and that no thought reaches a caller."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Sequence
from typing import Any, AnyStr

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.ollama.settings import OllamaSettings
from deployments.ollama.writer import PromptWriter
from deployments.types import PromptComplete, PromptOptions, PromptThinking
from serve_app.pipeline import Pipeline
from serve_app.settings import load_settings
from serve_app.sse import EventStream
from tests.deployments.ollama.samples import MODEL, MOUNTAINS, TimedOllama, collected, outcome
from tests.deployments.ollama.virtual_time import run_virtually
from tests.support.parts import FakeReader
from tests.support.pictures import photograph_path

FOX = "A red fox that stands in deep snow under a low sun."
THOUGHT = "The caller wants a fox."
PHOTOGRAPH = photograph_path("rocket").read_bytes()

Message = dict[str, str]


class ThinkingOllama(httpx.AsyncBaseTransport):
    """A server whose model can do what is listed, and says one script after another, each a list of messages."""

    def __init__(
        self,
        *answers: Sequence[Message],
        capabilities: Sequence[str] | None = ("completion", "thinking"),
        model: str = MODEL,
    ):
        self._answers = list(answers)
        self._model = model
        self._capabilities = capabilities
        self.asked: list[dict[str, Any]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/tags":
            model = {"model": self._model, "digest": "f5"}
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
    assert OllamaSettings().thinking("gpt-oss:20b") == "low"


@pytest.mark.parametrize(
    "thought",
    [[{"thinking": THOUGHT}], [{"content": f"<think>{THOUGHT}</think>"}], [{"content": f"<think>{THOUGHT}"}]],
    ids=["as a field", "in the text", "never closed"],
)
async def test_thought_without_a_prompt_is_tried_once_more_with_room_and_then_told(thought: list[Message]) -> None:
    server = ThinkingOllama(thought, [{"thinking": THOUGHT}, {"content": FOX}])
    assert await written(server) == PromptComplete(FOX, "ollama", model=MODEL)
    assert [(asked["think"], asked["options"]["num_predict"]) for asked in server.asked] == [
        (False, 150),
        (False, 150 + 2048),
    ]
    stubborn = await written(ThinkingOllama(thought))
    assert (stubborn.source, "thought, and came to no answer" in stubborn.warnings[0]) == ("template", True)


@pytest.mark.parametrize(
    ("model", "think", "again"), [("mistral:latest", "high", False), ("gpt-oss:20b", "high", "low")]
)
async def test_who_was_told_to_think_and_thought_in_vain_is_kept_from_it(model: str, think: str, again: object) -> None:
    server = ThinkingOllama([{"thinking": THOUGHT}], [{"content": FOX}], model=model)
    assert (await written(server, model=model, think=think)).prompt == FOX
    assert [asked["think"] for asked in server.asked] == [think, again]


INLINE = [{"content": "<think>"}, *[{"content": f"{THOUGHT} "}] * 5, {"content": "</think>"}]


@pytest.mark.parametrize("thought", [[{"thinking": THOUGHT}] * 7, INLINE], ids=["as a field", "in the text"])
def test_a_thought_is_a_sign_of_life_and_told_once(thought: list[Message]) -> None:
    async def scenario() -> None:
        server = TimedOllama(*((19.0, part) for part in thought), (10.0, FOX))
        writer = PromptWriter(OllamaSettings(token_gap_timeout_s=20), required=True, transport=server)
        heard = [(asyncio.get_running_loop().time(), event) async for event in writer.write(MOUNTAINS)]
        times = [at_s for at_s, event in heard if isinstance(event, PromptThinking)]
        assert times == pytest.approx([19])
        assert outcome([event for _, event in heard]).prompt == FOX
        await writer.close()

    run_virtually(scenario())


async def test_that_the_model_thinks_is_told_once_however_often_it_is_asked() -> None:
    server = ThinkingOllama([{"thinking": THOUGHT}], [{"thinking": THOUGHT}, {"content": FOX}])
    writer = PromptWriter(OllamaSettings(), required=True, transport=server)
    assert (await collected(writer.write(MOUNTAINS))).count(PromptThinking()) == 1
    await writer.close()


UNSAID = "UNS4ID"


@st.composite
def thoughtful(draw: st.DrawFn) -> tuple[list[bytes], bool]:
    """Give an answer with a thought in it, as chunks of its bytes, and whether there is a prompt after the thought."""
    thought = draw(st.text(alphabet="<>/ .\n", max_size=20)) + UNSAID + draw(st.text(alphabet="<>/ .\nS", max_size=20))
    as_field, closed = draw(st.booleans()), draw(st.booleans())
    field = cut(draw, thought) if as_field else []
    if not as_field:
        tag = draw(st.sampled_from(["think", "THINK", "thinking"]))
        text = f"<{tag}>{thought}" + (f"</{tag}>{FOX}" if closed else "")
    else:
        text = FOX if closed else ""
    messages = [{"content": "", "thinking": part} for part in field] + [{"content": part} for part in cut(draw, text)]
    lines: list[dict[str, Any]] = [{"message": {"role": "assistant", **message}, "done": False} for message in messages]
    last = {"message": {"role": "assistant", "content": ""}, "done": True}
    lines.append(last | {"done_reason": draw(st.sampled_from(["stop", "length"]))})
    return cut(draw, "".join(json.dumps(line) + "\n" for line in lines).encode()), closed


def cut(draw: st.DrawFn, whole: AnyStr) -> list[AnyStr]:
    """Cut at random."""
    cuts: list[int] = sorted(draw(st.sets(st.integers(0, len(whole)), max_size=15)))
    return [whole[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


class Stage:
    """The use case over a writer whose server says what it is given."""

    def __init__(self) -> None:
        self._writer = PromptWriter(OllamaSettings(), required=False, transport=httpx.MockTransport(self._respond))
        self._pipeline = Pipeline(
            FakeReader(), self._writer, load_settings({"image": {"quick_decode_s": math.inf}}, {})
        )

    async def sent(self, chunks: list[bytes]) -> bytes:
        """Give all bytes that a caller of the stream gets."""
        self._chunks = chunks
        sent = bytearray()

        async def send(message: Any) -> None:
            sent.extend(message.get("body", b""))

        job = await self._pipeline.accept(PHOTOGRAPH, PromptOptions())
        await EventStream(self._pipeline.stream(job), heartbeat_s=60, ended=job.close).stream_response(send)
        return bytes(sent)

    def _respond(self, request: httpx.Request) -> httpx.Response:
        async def body() -> AsyncIterator[bytes]:
            for chunk in self._chunks:
                yield chunk

        if request.method == "POST":
            return httpx.Response(200, content=body())
        return httpx.Response(200, json={"models": [{"model": MODEL, "capabilities": ["completion", "thinking"]}]})


def test_no_byte_of_a_thought_is_sent_to_a_caller_however_the_answer_is_cut() -> None:
    @settings(max_examples=1000, deadline=None)
    @given(thoughtful())
    def holds(answer: tuple[list[bytes], bool]) -> None:
        chunks, has_prompt = answer
        sent = runner.run(stage.sent(chunks))
        assert UNSAID.encode() not in sent
        events = [json.loads(line.removeprefix(b"data: ")) for line in sent.split(b"\n\n") if line]
        assert [event["status"] for event in events].count("thinking") <= 1
        assert events[-1]["promptSource"] == ("ollama" if has_prompt else "template")
        assert not has_prompt or events[-1]["generatedPrompt"] == FOX

    with asyncio.Runner() as runner:
        stage = Stage()
        holds()
