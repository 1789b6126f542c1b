"""Who is shown a picture, what it is shown, and what a caller gets where looking fails."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, get_args

import httpx
import pytest
from PIL import Image

from benchmarks.prompt_quality import requests
from deployments.errors import OllamaUnavailable
from deployments.ollama.instructions import build_messages
from deployments.ollama.settings import OllamaSettings
from deployments.ollama.sight import PLAIN_SEER, SMALLER_PX
from deployments.ollama.writer import PromptWriter
from deployments.types import Language, PromptComplete, PromptDelta, PromptLooking, PromptRequest
from tests.deployments.ollama.samples import (
    JPEG,
    MODEL,
    collected,
    jpeg,
    looked_at,
    mountains,
    open_writer,
    outcome,
    text_of,
)
from tests.deployments.ollama.virtual_time import run_virtually
from tests.support.fake_ollama import Answer, FakeOllama

FOX = "A red fox that stands in deep snow under a low sun."
SEER = "gemma3:4b"


async def written(writer: PromptWriter, request: PromptRequest) -> PromptComplete:
    return outcome(await collected(writer.write(request)))


def load(server: FakeOllama, model: str = MODEL) -> None:
    httpx.post(f"{server.url}/api/chat", json={"model": model, "messages": []}, trust_env=False)


def shown(server: FakeOllama, chat: int = -1) -> list[bytes]:
    """Give the pictures of the last message of a chat."""
    return [base64.b64decode(image) for image in server.chats[chat].body["messages"][-1].get("images", ())]


@pytest.mark.parametrize(
    ("can", "gpu_share", "settings", "auto", "why"),
    [
        (False, 1.0, {}, False, "does not see pictures"),
        (True, 1.0, {}, True, "100% of it is on a GPU"),
        (True, 0.5, {}, True, "50% of it is on a GPU"),
        (True, 0.4, {}, False, "40% of it is on a GPU. ollama.vision_on_cpu, or vision=on"),
        (True, 0.0, {"vision_on_cpu": True}, True, "0% of it is on a GPU"),
        (True, None, {}, False, "has not been loaded yet"),
        (True, None, {"vision_on_cpu": True}, True, "has not been loaded yet"),
        (False, None, {"vision_on_cpu": True}, False, f"ollama pull {PLAIN_SEER}"),
    ],
)
@pytest.mark.parametrize("version", ["0.33.0", "0.24.0"])
async def test_auto_looks_where_the_model_can_and_is_on_a_gpu_and_health_says_why(
    version: Any, can: bool, gpu_share: float | None, settings: dict[str, Any], auto: bool, why: str
) -> None:
    with FakeOllama(tokens=[FOX], seers=["mistral"] * can, gpu_share=gpu_share or 0, version=version) as server:
        if gpu_share is not None:
            load(server)
        async with open_writer(server, **settings) as writer:
            told = str((await writer.status()).facts["vision"])
            looking = await writer.looking()
            by = {vision: await written(writer, looked_at(vision=vision)) for vision in ("auto", "off", "on")}
    assert told.startswith("auto looks: " if auto else "auto does not look: ")
    assert why in told
    assert looking == ((MODEL,) if auto else ())
    assert {vision: complete.vision for vision, complete in by.items()} == {"auto": auto, "off": False, "on": can}
    assert {complete.prompt for complete in by.values()} == {FOX}
    assert by["auto"].warnings == by["off"].warnings == ()
    assert bool(by["on"].warnings) == (not can)
    if not can:
        assert f"ollama pull {PLAIN_SEER}" in by["on"].warnings[0]


async def test_what_was_on_a_gpu_when_it_was_last_loaded_is_taken_to_be_so_again() -> None:
    with FakeOllama(tokens=[FOX], seers=["mistral"], gpu_share=1) as server:
        load(server)
        async with open_writer(server) as writer:
            await writer.status()
            await writer.unload()
            for _ in range(2):
                status = await writer.status()
            assert status.facts["loaded"] == "no"
            assert (await written(writer, looked_at())).vision


async def test_the_picture_is_shown_as_it_is_in_the_last_message_and_that_it_is_looked_at_is_told() -> None:
    with FakeOllama(tokens=[FOX], seers=["mistral"]) as server:
        async with open_writer(server) as writer:
            events = await collected(writer.write(looked_at(vision="on", user_prompt="dusk")))
            await written(writer, mountains(user_prompt="dusk"))
    assert (events[0], outcome(events)) == (PromptLooking(), PromptComplete(FOX, "ollama", model=MODEL, vision=True))
    assert (shown(server, 0), shown(server, 1)) == ([JPEG], [])
    looks, text = (chat.body["messages"] for chat in server.chats)
    assert looks[:-1] == text[:-1]
    assert "With: dusk" in looks[-1]["content"]


def test_the_picture_says_first_what_is_there_and_notes_tell_shares_and_are_no_orders() -> None:
    told = build_messages(looked_at(), JPEG)[-1]["content"]
    assert "Say first what is really there" in told
    assert "never an order" in told
    assert "Subjects: mountains (50%), landscape (30%)" in told
    assert "Colours: earth tones, dark brown, blue" in told
    assert str(JPEG) not in repr(looked_at())


async def test_a_hundred_requests_for_one_picture_are_the_same_up_to_the_end_of_the_picture() -> None:
    asked = [
        looked_at(
            user_prompt=request.options.user_prompt,
            deep_thinking=bool(number % 2),
            language=request.options.language,
            seed=number,
            vision="on",
        )
        for number, request in enumerate(requests(100, get_args(Language)))
    ]
    with FakeOllama(tokens=[FOX], seers=["mistral"]) as server:
        async with open_writer(server) as writer:
            for request in asked:
                assert (await written(writer, request)).vision
    bodies = [chat.body for chat in server.chats]
    last = [body["messages"].pop() for body in bodies]
    before = {
        json.dumps([body["model"], body["messages"], message["images"]])
        for body, message in zip(bodies, last, strict=True)
    }
    assert len(before) == 1
    assert {body["options"]["num_ctx"] for body in bodies} == {4096}
    assert len({message["content"] for message in last}) > 50


async def test_a_model_of_its_own_looks_and_then_writes_unless_another_is_asked_for() -> None:
    with FakeOllama(tokens=[FOX], models=["mistral", SEER], seers=[SEER], gpu_share=1) as server:
        load(server, SEER)
        async with open_writer(server, vision_model=SEER) as writer:
            assert await writer.looking() == (SEER,)
            got = [await written(writer, looked_at(vision=vision)) for vision in ("auto", "off")]
            got.append(await written(writer, looked_at(vision="auto", model="mistral")))
            assert sorted((await writer.unload())[0]) == [SEER, MODEL]
    assert [(complete.model, complete.vision) for complete in got] == [(SEER, True), (MODEL, False), (MODEL, False)]


async def test_where_its_model_is_absent_another_writes_and_on_says_how_to_fetch_it() -> None:
    with FakeOllama(tokens=[FOX]) as server:
        async with open_writer(server, vision_model=SEER) as writer:
            status = await writer.status()
            complete = await written(writer, looked_at(vision="on"))
    assert (
        status.state,
        f"Run: ollama pull {SEER}" in str(status.facts["vision"]).replace(f"OLLAMA_HOST={server.url} ", ""),
    ) == ("ready", True)
    assert (complete.model, complete.prompt) == (MODEL, FOX)
    assert "pull gemma3:4b" in complete.warnings[0]


async def test_where_its_model_was_removed_meanwhile_another_writes_and_it_is_found_when_it_is_back() -> None:
    with FakeOllama(tokens=[FOX], models=["mistral", SEER], seers=[SEER]) as server:
        async with open_writer(server, vision_model=SEER) as writer:
            assert (await written(writer, looked_at(vision="on"))).vision
            server.models.remove(SEER)
            gone = [await written(writer, looked_at(vision="on")) for _ in range(2)]
            server.models.append(SEER)
            back = await written(writer, looked_at(vision="on"))
    assert [(complete.model, complete.prompt, complete.vision) for complete in gone] == [(MODEL, FOX, False)] * 2
    assert all(f"ollama pull {SEER}" in complete.warnings[0] for complete in gone)
    assert (back.model, back.vision) == (SEER, True)


async def test_only_a_server_whose_model_looks_is_asked_to() -> None:
    with FakeOllama(tokens=[FOX]) as blind, FakeOllama(tokens=[FOX], seers=["mistral"], gpu_share=1) as seer:
        load(seer)
        async with open_writer(blind, seer) as writer:
            for colour in ("red", "green", "blue"):
                assert (await written(writer, looked_at(jpeg(colour=colour)))).vision
    assert len(blind.chats) == 0


class Failing(httpx.AsyncBaseTransport):
    """A server that sees: what it answers to a picture, one after another, and then a prompt; a text gets that too."""

    def __init__(self, *answers: httpx.Response | Exception, text: httpx.Response | None = None) -> None:
        self._answers = list(answers)
        self._text = text
        self.sizes: list[int] = []
        """Of each request: the longest side of its picture, 0 where it has none."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path != "/api/chat":
            return httpx.Response(200, json={"models": [{"model": MODEL, "capabilities": ["completion", "vision"]}]})
        images = json.loads(request.content)["messages"][-1].get("images")
        self.sizes.append(max(Image.open(io.BytesIO(base64.b64decode(images[0]))).size) if images else 0)
        if not images and self._text is not None:
            return self._text
        answer = self._answers.pop(0) if images and self._answers else said(FOX)
        if isinstance(answer, Exception):
            raise answer
        return answer


def said(*texts: str, done: bool = True, error: str = "") -> httpx.Response:
    lines: list[dict[str, Any]] = [{"message": {"role": "assistant", "content": text}} for text in texts]
    if done:
        lines.append({"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"})
    if error:
        lines.append({"error": error})
    return httpx.Response(200, content="".join(json.dumps(line) + "\n" for line in lines))


def refused(status: int, error: str) -> httpx.Response:
    wrapped = json.dumps({"error": {"code": status, "message": error, "type": "server_error"}})
    return httpx.Response(status, json={"error": wrapped})


NO_ROOM = refused(400, "request (4871 tokens) exceeds the available context size (4096 tokens), try increasing it")
NO_ROOM_AT_ALL = refused(400, "prompt too long; exceeded max context length by 775 tokens")
NO_TOWER = refused(400, "Multimodal data provided, but model does not support multimodal requests.")
STUCK = refused(500, "got exception: Chunk not found")
EMPTY = said("")


@pytest.mark.parametrize(
    ("answers", "sizes", "saw", "why"),
    [
        ([], [768], True, ""),
        ([NO_TOWER], [768, 0], False, "multimodal"),
        ([refused(400, "Failed to load image or audio file")], [768, 0], False, "Failed to load image"),
        ([STUCK], [768, 0], False, "Chunk not found"),
        ([refused(500, "model runner has unexpectedly stopped")], [768, 0], False, "unexpectedly stopped"),
        ([said(done=False, error="unexpected EOF")], [768, 0], False, "unexpected EOF"),
        ([httpx.ReadError("")], [768, 0], False, "broke off"),
        ([NO_ROOM], [768, SMALLER_PX], True, ""),
        ([NO_ROOM, NO_ROOM_AT_ALL], [768, SMALLER_PX, 0], False, "exceeded max context length"),
        ([NO_ROOM, STUCK], [768, SMALLER_PX, 0], False, "Chunk not found"),
        ([EMPTY], [768, 768], True, ""),
        ([EMPTY, EMPTY], [768, 768, 0], False, "answer was empty"),
    ],
    ids=["well", "no tower", "no picture", "stuck", "runner died", "runner dies", "torn", "no room", "no room at all",
         "no room, then stuck", "nothing said", "nothing said twice"],
)  # fmt: skip
async def test_where_looking_fails_the_same_model_writes_without_and_the_caller_is_told(
    answers: Sequence[Any], sizes: list[int], saw: bool, why: str
) -> None:
    server = Failing(*answers)
    writer = PromptWriter(OllamaSettings(), required=True, transport=server)
    events = await collected(writer.write(looked_at(vision="on")))
    await writer.close()
    complete = outcome(events)
    assert (complete.prompt, complete.source, complete.model, complete.vision) == (FOX, "ollama", MODEL, saw)
    assert server.sizes == sizes
    assert [why in warning and "No model looked at the picture" in warning for warning in complete.warnings] == [
        True
    ] * (not saw)
    assert (PromptLooking(looks=False) in events) == (not saw)
    assert text_of(events) == FOX


async def test_a_picture_that_is_small_already_is_not_shown_smaller() -> None:
    server = Failing(NO_ROOM)
    writer = PromptWriter(OllamaSettings(), required=True, transport=server)
    assert not (await written(writer, looked_at(jpeg((400, 300)), vision="on"))).vision
    await writer.close()
    assert server.sizes == [400, 0]


@pytest.mark.parametrize("required", [False, True])
async def test_where_text_fails_too_the_template_writes_and_both_reasons_are_told(required: bool) -> None:
    server = Failing(STUCK, text=refused(500, "out of memory"))
    writer = PromptWriter(OllamaSettings(), required=required, transport=server)
    if required:
        with pytest.raises(OllamaUnavailable, match="out of memory"):
            await collected(writer.write(looked_at(vision="on")))
    else:
        complete = await written(writer, looked_at(vision="on"))
        assert (complete.source, complete.vision) == ("template", False)
        assert ["Chunk" in complete.warnings[0], "memory" in complete.warnings[1]] == [True, True]
    await writer.close()
    assert server.sizes == [768, 0, 0]


async def test_a_text_goes_to_the_server_that_a_picture_has_got_stuck() -> None:
    with FakeOllama(tokens=[FOX], seers=["mistral"]) as server, FakeOllama(tokens=[FOX], seers=["mistral"]) as other:
        server.answer = Answer(status=500, error="got exception: Chunk not found")
        async with open_writer(server, other) as writer:
            complete = await written(writer, looked_at(vision="on"))
    assert [bool(shown(server, chat)) for chat in range(len(server.chats))] == [True, False]
    assert (complete.vision, len(other.chats)) == (False, 1)


@pytest.mark.parametrize("down", ["refuses", "busy"])
async def test_a_server_that_is_down_or_busy_is_not_the_pictures_fault_and_another_looks(down: str) -> None:
    with FakeOllama(tokens=[FOX], seers=["mistral"]) as server, FakeOllama(tokens=[FOX], seers=["mistral"]) as other:
        server.answer = Answer(status=503, error="server busy, please try again.")
        async with open_writer(server, other) as writer:
            await writer.looking()
            if down == "refuses":
                server.stop()
            complete = await written(writer, looked_at(vision="on"))
            if down == "refuses":
                server.start()
    assert (complete.vision, complete.warnings, len(other.chats)) == (True, (), 1)


async def test_a_picture_whose_text_breaks_off_is_looked_at_again() -> None:
    server = Failing(said(FOX[:45], done=False))
    writer = PromptWriter(OllamaSettings(), required=True, transport=server)
    complete = await written(writer, looked_at(vision="on"))
    await writer.close()
    assert (complete.prompt, complete.vision, server.sizes) == (FOX, True, [768, 768])


class Slow(httpx.AsyncBaseTransport):
    """Looks for so long, says its prompt, and ends a second later."""

    def __init__(self, look_s: float) -> None:
        self._look_s = look_s

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path != "/api/chat":
            return httpx.Response(200, json={"models": [{"model": MODEL, "capabilities": ["completion", "vision"]}]})

        async def lines() -> AsyncIterator[bytes]:
            await asyncio.sleep(self._look_s if b'"images"' in request.content else 0)
            yield said(FOX, done=False).content
            await asyncio.sleep(1)
            yield said().content

        return httpx.Response(200, content=lines())


@pytest.mark.parametrize(
    ("request_", "left_s", "free_s"),
    [(looked_at(vision="on"), 2, 20), (looked_at(vision="on"), 20.5, 20.5), (mountains(), 0.5, 0.5)],
    ids=["while it is looked at", "then", "a text"],
)
def test_who_leaves_a_look_leaves_the_place_when_the_server_is_free_and_a_text_at_once(
    request_: PromptRequest, left_s: float, free_s: float
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        writer = PromptWriter(OllamaSettings(), required=True, transport=Slow(20))
        leaver = asyncio.create_task(collected(writer.write(request_)))
        await asyncio.sleep(left_s)
        leaver.cancel()
        await asyncio.gather(leaver, return_exceptions=True)
        assert loop.time() == pytest.approx(left_s), "its caller waits for nothing"
        await written(writer, mountains())
        assert loop.time() == pytest.approx(free_s + 1)
        assert (await writer.status()).facts["writing"] == 0
        await writer.close()

    run_virtually(scenario())


def test_a_place_for_looking_is_free_from_the_first_token_on_and_others_write_meanwhile() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        settings = OllamaSettings(max_parallel=3, max_looking=1)
        writer = PromptWriter(settings, required=True, transport=Slow(20))
        looks = [asyncio.create_task(written(writer, looked_at(vision="on"))) for _ in range(2)]
        await asyncio.sleep(1)
        await written(writer, mountains())
        assert loop.time() == pytest.approx(2), "who looks keeps nobody from writing"
        await asyncio.gather(*looks)
        assert loop.time() == pytest.approx(41), "the second look began with the first one's first token"
        await writer.close()

    run_virtually(scenario())


@pytest.mark.parametrize(("limit_s", "source"), [(30, "ollama"), (10, "template")])
def test_a_look_has_its_own_time_to_the_first_token(limit_s: float, source: str) -> None:
    async def scenario() -> None:
        settings = OllamaSettings(first_look_timeout_s=limit_s, first_token_timeout_s=5)
        writer = PromptWriter(settings, required=False, transport=Slow(20))
        complete = await written(writer, looked_at(vision="on"))
        assert (complete.source, complete.vision) == (source, source == "ollama")
        assert ("no first token within 10 s" in str(complete.warnings)) == (source == "template")
        await writer.close()

    run_virtually(scenario())


async def test_the_first_token_after_a_look_is_passed_on_within_ten_milliseconds() -> None:
    late_ms: list[float] = []
    with FakeOllama(Answer([f"{FOX} ", "It waits."], interval_s=0.01), seers=["mistral"], look_s=0.02) as server:
        async with open_writer(server) as writer:
            for number in range(21):
                request = looked_at(jpeg((400, 300), f"hsl({number * 9}, 80%, 50%)"), vision="on")
                came_s = [time.monotonic() async for event in writer.write(request) if isinstance(event, PromptDelta)]
                late_ms.append((came_s[0] - server.chats[-1].sent_at_s[0]) * 1000)
    assert statistics.median(late_ms) <= 10


LOOK_S, PLACES, CALLERS = 2.0, 4, 40


async def test_forty_callers_of_whom_a_third_leave_lose_no_place_though_a_runner_is_killed_twice() -> None:
    ways: dict[str, Any] = {"tokens": [FOX], "seers": ["mistral"], "look_s": LOOK_S, "parallel": PLACES}
    with FakeOllama(**ways) as one, FakeOllama(**ways) as two:
        settings: dict[str, Any] = {"max_parallel": PLACES, "max_looking": PLACES, "max_waiting": CALLERS}
        async with open_writer(one, two, required=True, **settings) as writer:
            pictures = [jpeg((64, 48), f"hsl({number * 9}, 80%, 50%)") for number in range(CALLERS)]
            calls = [asyncio.create_task(written(writer, looked_at(picture, vision="on"))) for picture in pictures]
            for kill in range(2):
                await one.wait_for_chats((kill + 1) * PLACES)
                await asyncio.sleep(LOOK_S / 4)
                for leaver in calls[::3][kill * 7 : kill * 7 + 7]:
                    leaver.cancel()
                await asyncio.to_thread(one.kill_runner)
            got = await asyncio.gather(*calls, return_exceptions=True)
            async with asyncio.timeout(5 * LOOK_S):
                while (facts := (await writer.status()).facts)["writing"]:
                    pass
            assert (facts["looking"], facts["waiting"]) == (0, 0)
    left = [complete for complete in got if isinstance(complete, asyncio.CancelledError)]
    told = [complete for complete in got if isinstance(complete, PromptComplete)]
    assert (len(left), len(left) + len(told)) == (CALLERS // 3 + 1, CALLERS)
    assert {(complete.prompt, complete.source) for complete in told} == {(FOX, "ollama")}
    assert 0 < sum(not complete.vision for complete in told) <= 2 * PLACES
    assert max(one.longest_wait_s, two.longest_wait_s) < LOOK_S / 2, "a request was sent to a server without a place"
