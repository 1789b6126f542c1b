from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from deployments.errors import DeadlinePassed, OllamaUnavailable, QueueFull
from deployments.ollama.instructions import build_messages
from deployments.ollama.settings import OllamaSettings
from deployments.ollama.template import compose
from deployments.ollama.writer import CUT, PromptWriter
from deployments.types import (
    ComponentStatus,
    PromptComplete,
    PromptDelta,
    PromptRequest,
    PromptRestart,
    PromptWaiting,
)
from tests.deployments.ollama.samples import (
    MODEL,
    MOUNTAINS,
    TimedOllama,
    collected,
    mountains,
    open_writer,
    outcome,
    text_of,
)
from tests.deployments.ollama.virtual_time import run_virtually
from tests.support.fake_ollama import Answer, FakeOllama, Pull

WORDS = ["A red fox that stands in deep snow under a low sun", " and", " waits", " for", " dusk", "."]
"""The first is longer than what is held back of a beginning."""

SENTENCE = "".join(WORDS)
COMPOSED = compose(MOUNTAINS)


async def written(writer: PromptWriter, request: PromptRequest = MOUNTAINS) -> PromptComplete:
    return outcome(await collected(writer.write(request)))


async def told(writer: PromptWriter, condition: Callable[[ComponentStatus], bool]) -> ComponentStatus:
    """Ask how it stands until that is told."""
    async with asyncio.timeout(5):
        while not condition(status := await writer.status()):
            pass
    return status


@pytest.fixture
def absent() -> FakeOllama:
    """A server that is down."""
    with FakeOllama(tokens=WORDS) as server:
        pass
    return server


@pytest.mark.parametrize(
    ("deep", "options"),
    [
        (False, {"temperature": 0.5, "num_predict": 150}),
        (True, {"temperature": 0.7, "num_predict": 300}),
    ],
)
async def test_ollama_writes_the_prompt_that_it_is_asked_for(deep: bool, options: dict[str, float]) -> None:
    with FakeOllama(tokens=WORDS) as server:
        async with open_writer(server, keep_alive="30m") as writer:
            request = mountains(deep_thinking=deep, user_prompt="dusk", language="ja")
            events = await collected(writer.write(request))
    assert (text_of(events), outcome(events)) == (SENTENCE, PromptComplete(SENTENCE, "ollama", model=MODEL))
    body = server.chats[0].body
    assert (body["model"], body["stream"], body["keep_alive"]) == ("mistral:latest", True, "30m")
    assert body["options"] == {"top_p": 0.9, "repeat_penalty": 1.05, "num_ctx": 4096, **options}
    assert "think" not in body
    assert body["messages"] == build_messages(request)


async def test_the_same_picture_and_seed_ask_ollama_for_the_very_same() -> None:
    with FakeOllama(tokens=WORDS) as server:
        async with open_writer(server, temperature_standard=0) as writer:
            for seed in (7, 7, 8, None):
                await collected(writer.write(mountains(user_prompt="dusk", seed=seed)))
    bodies = [chat.body for chat in server.chats]
    assert bodies[0] == bodies[1]
    assert [body["options"].get("seed") for body in bodies] == [7, 7, 8, None]
    assert bodies[0]["options"]["temperature"] == 0


async def test_first_token_is_passed_on_before_there_is_a_second() -> None:
    with FakeOllama(Answer(WORDS, hold_at=1)) as server:
        async with open_writer(server) as writer, aclosing(writer.write(MOUNTAINS)) as events:
            assert await anext(events) == PromptDelta(WORDS[0])
            server.release()
            assert outcome([event async for event in events]).prompt == SENTENCE


@pytest.mark.parametrize(("answers", "pieces_each_per_s"), [(1, 50), (8, 50), (64, 20), (128, 10)])
def test_with_many_answers_at_a_time_the_pieces_get_longer_and_no_more(answers: int, pieces_each_per_s: float) -> None:
    async def scenario() -> None:
        words = [f"word{number} " for number in range(150)]
        settings = OllamaSettings(max_parallel=answers, max_pieces_per_s=1280)
        writer = PromptWriter(settings, required=True, transport=TimedOllama(*((1 / 50, word) for word in words)))
        for events in await asyncio.gather(*(collected(writer.write(MOUNTAINS)) for _ in range(answers))):
            assert text_of(events) == "".join(words).rstrip()
            assert len(events) == pytest.approx(pieces_each_per_s * 150 / 50, rel=0.1)
        assert asyncio.get_running_loop().time() == pytest.approx(150 / 50)
        await writer.close()

    run_virtually(scenario())


@pytest.mark.parametrize(
    ("said", "prompt"),
    [
        ('"A red fox."', "A red fox."),
        ("Prompt: A red fox.\n", "A red fox."),
        ('Image prompt: "A red fox."', "A red fox."),
        ("「赤い狐」", "赤い狐"),
        ('"A" and "B"', '"A" and "B"'),
        ("A prompt: nothing to trim", "A prompt: nothing to trim"),
        ('""', COMPOSED),
    ],
)
async def test_what_a_model_wraps_around_the_prompt_is_taken_off_the_whole(said: str, prompt: str) -> None:
    with FakeOllama(tokens=[said]) as server:
        async with open_writer(server) as writer:
            assert (await written(writer)).prompt == prompt


async def test_what_is_cut_ends_with_a_whole_sentence_and_says_so() -> None:
    with FakeOllama(tokens=[SENTENCE, " Behind", " it", " the", " trees"]) as server:
        async with open_writer(server, num_predict_standard=3, max_prompt_chars=90) as writer:
            assert await written(writer) == PromptComplete(SENTENCE, "ollama", (CUT,), truncated=True, model=MODEL)
            server.answer = Answer([f"word{number} " for number in range(100)], ending="endless")
            complete = await written(writer)
        assert await server.wait_for_disconnect()
    assert (len(complete.prompt) <= 90, complete.source, complete.truncated) == (True, "ollama", True)


@pytest.mark.parametrize("loop", [("\n",) * 30, ("again and ",) * 30], ids=["of nothing", "of words"])
async def test_what_only_loops_is_asked_for_once_more_with_a_higher_penalty(loop: tuple[str, ...]) -> None:
    with FakeOllama(Answer(loop)) as server, FakeOllama(tokens=WORDS) as other:
        async with open_writer(server) as writer:
            complete = await written(writer)
        penalties = [exchange.body["options"]["repeat_penalty"] for exchange in server.chats]
        assert (complete.source, penalties) == ("template", [1.05, 1.2])
        assert "the same again and again" in complete.warnings[0]
        async with open_writer(server, other, repeat_penalty=1.5) as writer:
            assert (await written(writer)).source == "ollama"
        assert other.chats[0].body["options"]["repeat_penalty"] == pytest.approx(1.5)


async def test_a_loop_is_not_read_to_its_end() -> None:
    with FakeOllama(Answer([f"{SENTENCE} ", *["the light and the sea "] * 3], ending="endless")) as server:
        async with open_writer(server) as writer:
            complete = await written(writer)
        assert await server.wait_for_disconnect()
    assert (complete.prompt, complete.truncated) == (SENTENCE, True)


async def test_a_thought_in_the_text_takes_no_room_from_the_prompt() -> None:
    with FakeOllama(
        tokens=["<think>", *(f"thought {number} " for number in range(50)), "</think>", SENTENCE]
    ) as server:
        async with open_writer(server, num_predict_standard=100, max_prompt_chars=len(SENTENCE) + 1) as writer:
            assert await written(writer) == PromptComplete(SENTENCE, "ollama", model=MODEL)


@pytest.mark.parametrize("seed", [None, 0, 2**31 - 1])
def test_the_same_picture_seed_and_temperature_0_send_the_very_same_request(seed: int | None) -> None:
    sent: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"models": []})
        sent.append(request.content)
        line = {"message": {"role": "assistant", "content": SENTENCE}, "done": True, "done_reason": "stop"}
        return httpx.Response(200, json=line)

    async def scenario() -> None:
        for _ in range(2):
            settings = OllamaSettings(temperature_standard=0)
            writer = PromptWriter(settings, required=True, transport=httpx.MockTransport(answer))
            for _ in range(2):
                assert (await written(writer, mountains(user_prompt="dusk", seed=seed))).source == "ollama"
            await writer.close()

    asyncio.run(scenario())
    assert (len(sent), len({*sent})) == (4, 1)
    options = json.loads(sent[0])["options"]
    assert (options.get("seed"), options["temperature"]) == (seed, 0)


@pytest.mark.parametrize(
    ("hold_at", "way"), [(0, "cancel"), (1, "cancel"), (1, "close")], ids=["while the model loads", "midway", "closed"]
)
async def test_the_callers_leaving_stops_the_generation_and_frees_the_place(hold_at: int, way: str) -> None:
    with FakeOllama(Answer(WORDS, hold_at=hold_at)) as server:
        async with open_writer(server, max_parallel=1, max_waiting=0) as writer:
            events = writer.write(MOUNTAINS)
            if hold_at:
                await anext(events)
            if way == "close":
                await events.aclose()
            else:
                reading = asyncio.ensure_future(anext(events))
                await server.wait_for_chats(1)
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
            assert await server.wait_for_disconnect()
            assert not server.chats[0].finished
            server.answer = Answer(WORDS)
            assert (await written(writer)).source == "ollama"


async def test_a_reader_who_dawdles_does_not_keep_others_from_their_turn() -> None:
    with FakeOllama(tokens=WORDS) as server:
        async with open_writer(server, max_parallel=1) as writer, aclosing(writer.write(MOUNTAINS)) as dawdler:
            await anext(dawdler)
            async with asyncio.timeout(5):
                assert (await written(writer)).source == "ollama"


async def test_no_more_than_max_parallel_are_sent_to_ollama_and_the_rest_wait_or_leave() -> None:
    with FakeOllama(Answer(WORDS, hold_at=1), parallel=8) as server:
        async with open_writer(server, max_parallel=2, max_waiting=4) as writer:
            writing = [asyncio.create_task(written(writer)) for _ in range(6)]
            await server.wait_for_chats(2)
            status = await writer.status()
            assert (status.facts["writing"], status.facts["waiting"]) == (2, 4)
            turned_away = await written(writer)
            assert (turned_away.prompt, turned_away.source) == (COMPOSED, "template")
            assert "4 requests already wait for a prompt" in turned_away.warnings[0]
            leaver = writing.pop()
            leaver.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaver
            assert len(server.chats) == 2
            server.release()
            assert {complete.source for complete in await asyncio.gather(*writing)} == {"ollama"}
    assert len(server.chats) == 5


async def test_without_a_server_the_prompt_is_composed_and_the_warning_says_what_to_start(absent: FakeOllama) -> None:
    request = mountains(language="es")
    async with open_writer(absent) as writer:
        events = await collected(writer.write(request))
    complete = outcome(events)
    assert (events[0], complete.prompt, complete.source) == (
        PromptDelta(compose(request)),
        compose(request),
        "template",
    )
    (warning,) = complete.warnings
    assert "ollama serve" in warning


async def test_ollama_is_found_again_by_the_first_request_after_it_is_back(absent: FakeOllama) -> None:
    async with open_writer(absent) as writer:
        for _ in range(2):
            assert (await written(writer)).source == "template"
            assert (await writer.status()).state == "fallback"
            with absent:
                assert (await written(writer)).source == "ollama"
                assert (await writer.status()).state == "ready"


async def test_an_absent_model_gives_a_composed_prompt_and_the_command() -> None:
    with FakeOllama(models=[]) as server:
        async with open_writer(server) as writer:
            complete, status = await written(writer), await writer.status()
    assert complete.source == "template"
    assert "ollama pull mistral:latest" in complete.warnings[0]
    assert (status.state, status.active) == ("fallback", "template")
    assert "ollama pull mistral:latest" in status.remedy
    assert all(exchange.path != "/api/pull" for exchange in server.exchanges)


@pytest.mark.parametrize("ending", ["error", "broken_line", "cut", "quiet"])
@pytest.mark.parametrize("others", [0, 1])
async def test_a_failure_midway_voids_the_text_so_far_and_another_or_the_same_server_begins_anew(
    ending: Any, others: int
) -> None:
    with FakeOllama(Answer(WORDS[:3], ending=ending)) as server, FakeOllama(tokens=WORDS) as other:
        async with open_writer(server, *[other] * others) as writer:
            events = await collected(writer.write(MOUNTAINS))
    restarts = [at for at, event in enumerate(events) if isinstance(event, PromptRestart)]
    assert text_of(events[: restarts[0]]) == "".join(WORDS[:3])
    complete = outcome(events)
    if others:
        assert (len(restarts), complete) == (1, PromptComplete(SENTENCE, "ollama", model=MODEL))
    else:
        assert (len(restarts), len(server.chats), complete.source) == (2, 2, "template")
    assert text_of(events) == complete.prompt


async def test_a_server_that_falls_silent_midway_is_not_waited_for_twice() -> None:
    with FakeOllama(Answer(WORDS[:3], ending="stall")) as server, FakeOllama(tokens=WORDS) as other:
        async with open_writer(server, other, token_gap_timeout_s=0.1) as writer:
            complete = outcome(await collected(writer.write(MOUNTAINS)))
    assert (complete.source, other.chats) == ("template", [])


@pytest.mark.parametrize(
    ("answer", "models", "failure"),
    [
        (None, ["mistral"], "ollama serve"),
        (Answer(), [], "ollama pull mistral:latest"),
        (Answer(status=500), ["mistral"], "an error was encountered"),
        (Answer(["A"], ending="cut"), ["mistral"], "broke off"),
    ],
    ids=["down", "no model", "fails", "breaks off"],
)
async def test_where_ollama_is_required_nothing_stands_in(
    answer: Answer | None, models: list[str], failure: str
) -> None:
    with FakeOllama(answer, models=models) as server:
        async with open_writer(server, required=True) as writer:
            if answer is None:
                server.stop()
                status = await writer.status()
                assert (status.state, status.active) == ("unavailable", "none")
                assert failure in status.remedy
            with pytest.raises(OllamaUnavailable, match=failure) as caught:
                await collected(writer.write(MOUNTAINS))
            if answer is None:
                server.start()
    assert caught.value.retry_after_s == 5


async def test_where_ollama_is_required_a_full_line_turns_away() -> None:
    with FakeOllama(Answer(WORDS, hold_at=0)) as server:
        async with open_writer(server, required=True, max_waiting=0) as writer:
            writing = asyncio.create_task(written(writer))
            await server.wait_for_chats(1)
            with pytest.raises(QueueFull, match="try again in 5 s"):
                await written(writer)
            server.release()
            assert (await writing).source == "ollama"


def test_each_in_line_hears_its_place_until_its_turn_and_who_finds_a_free_place_hears_of_none() -> None:
    async def scenario() -> None:
        writer = PromptWriter(OllamaSettings(), required=True, transport=TimedOllama((10, f"{SENTENCE} "), (1, "It.")))
        heard = await asyncio.gather(*(collected(writer.write(MOUNTAINS)) for _ in range(4)))
        places = [[event.before for event in events if isinstance(event, PromptWaiting)] for events in heard]
        assert places == [[], [1, 0], [2, 1, 0], [3, 2, 1, 0]]
        for events in heard[1:]:
            assert all(isinstance(event, PromptDelta) for event in events[len(events) - 3 : -1])
        await writer.close()

    run_virtually(scenario())


def test_who_begins_again_waits_for_a_place_no_longer_than_its_own_deadline() -> None:
    """The other server's place is held by one that came later, and may be held for longer."""

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"models": [{"model": MODEL}]})
        await asyncio.sleep(100 if request.url.host == "one" else 140)
        return httpx.Response(500, json={"error": "out of memory"})

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        settings = OllamaSettings(hosts=("one", "two"), first_token_timeout_s=150, server_rest_s=100)
        writer = PromptWriter(settings, required=False, transport=httpx.MockTransport(answer))
        first = asyncio.create_task(written(writer))
        await asyncio.sleep(50)
        second = asyncio.create_task(written(writer))
        complete = await first
        assert loop.time() == pytest.approx(150)
        assert (complete.source, "out of memory" in complete.warnings[0]) == ("template", True)
        await second
        await writer.close()

    run_virtually(scenario())


def test_time_in_line_counts_towards_the_deadline() -> None:
    async def scenario() -> None:
        writer = PromptWriter(OllamaSettings(), required=False, transport=TimedOllama((100, "A fox")))
        writing = [asyncio.create_task(written(writer)) for _ in range(3)]
        first, *late = [await task for task in writing]
        assert asyncio.get_running_loop().time() == pytest.approx(150)
        assert [first.source, *(complete.source for complete in late)] == ["ollama", "template", "template"]
        assert all("150 s" in complete.warnings[0] for complete in late)
        await writer.close()

    run_virtually(scenario())


def test_a_server_that_hangs_passes_the_deadline_where_it_is_required_and_does_not_hang_health() -> None:
    async def scenario() -> None:
        writer = PromptWriter(
            OllamaSettings(), required=True, transport=TimedOllama((1000, "A fox"), lists_models=False)
        )
        status = await writer.status()
        assert asyncio.get_running_loop().time() == pytest.approx(2)
        assert (status.state, "did not list its models within 2 s" in status.reason) == ("unavailable", True)
        with pytest.raises(DeadlinePassed, match="no first token within 120 s"):
            await anext(writer.write(MOUNTAINS))
        await writer.close()

    run_virtually(scenario())


async def test_a_pull_runs_once_shows_its_progress_and_then_ollama_writes() -> None:
    with FakeOllama(tokens=WORDS, models=[], pull=Pull(steps=4, hold_at=3)) as server:
        async with open_writer(server, auto_pull=True, model="library/Mistral") as writer:
            first = await written(writer)
            assert first.source == "template"
            assert "pulling library/Mistral" in first.warnings[0]
            status = await told(writer, lambda status: status.facts["pull_percent"] == 75)
            assert status.state == "fallback"
            assert "75 %" in status.reason
            assert "75 %" in (await written(writer)).warnings[0]
            server.release()
            await told(writer, lambda status: status.state == "ready")
            assert (await written(writer)).source == "ollama"
    assert [exchange.path for exchange in server.exchanges].count("/api/pull") == 1


async def test_every_server_pulls_the_required_model_although_health_keeps_requests_away() -> None:
    with FakeOllama(models=[]) as one, FakeOllama(models=[]) as two:
        async with open_writer(one, two, required=True, auto_pull=True) as writer:
            await told(writer, lambda status: status.state == "ready" and "not_writing" not in status.facts)
    assert one.models == two.models == ["mistral:latest"]


async def test_a_pull_that_failed_is_told_with_its_reason_and_tried_again() -> None:
    with FakeOllama(models=[], pull=Pull(error="pull model manifest: file does not exist")) as server:
        async with open_writer(server, auto_pull=True) as writer:
            await written(writer)
            await told(writer, lambda status: "file does not exist" in status.reason)
            assert "file does not exist" in (await written(writer)).warnings[0]
            server.pull = Pull()
            await told(writer, lambda status: status.state == "ready")
            server.models.clear()
            assert "file does not exist" not in (await writer.status()).reason


async def test_a_pull_without_progress_is_given_up_and_told_and_the_writer_s_end_stops_it() -> None:
    with FakeOllama(models=[], pull=Pull(hold_at=1)) as server:
        async with open_writer(server, auto_pull=True, pull_stall_timeout_s=0.05) as writer:
            await told(writer, lambda status: "no progress for 0.05 s" in status.reason)
        server.exchanges.clear()
        async with open_writer(server, auto_pull=True) as writer:
            await told(writer, lambda status: status.facts["pull_percent"] == 25)
        assert await server.wait_for_disconnect()


async def test_where_one_server_fails_another_writes_and_the_first_is_left_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "image_analyzer.ollama")
    with FakeOllama(Answer(status=500, error="out of memory")) as one, FakeOllama(tokens=WORDS) as two:
        async with open_writer(one, two) as writer:
            for _ in range(3):
                assert await written(writer) == PromptComplete(SENTENCE, "ollama", model=MODEL)
    assert (len(one.chats), len(two.chats)) == (1, 3)
    assert caplog.messages[0] == f"{one.url} is left alone for 30 s: Ollama failed: out of memory."
    assert caplog.messages[1].startswith(f"{two.url} wrote a prompt in ")


async def test_a_server_that_is_down_costs_nobody_a_prompt_and_is_found_again(absent: FakeOllama) -> None:
    with FakeOllama(tokens=WORDS) as up:
        async with open_writer(absent, up, server_rest_s=0.01) as writer:
            assert {(await written(writer)).source for _ in range(3)} == {"ollama"}
            status = await writer.status()
            reason = f"Ollama does not answer at {absent.url}. Start it there with: ollama serve"
            assert (status.state, len(up.chats), status.facts["not_writing"]) == ("ready", 3, reason)
            with absent:
                await asyncio.sleep(0.05)
                assert {(await written(writer)).source for _ in range(2)} == {"ollama"}
                assert (len(absent.chats), "not_writing" in (await writer.status()).facts) == (1, False)


async def test_prompts_written_at_the_same_time_are_spread_over_the_servers() -> None:
    answer = Answer(WORDS, hold_at=1)
    with FakeOllama(answer) as one, FakeOllama(answer) as two:
        async with open_writer(one, two, max_parallel=2) as writer:
            writing = [asyncio.create_task(written(writer)) for _ in range(5)]
            for server in (one, two):
                await server.wait_for_chats(2)
            facts = (await writer.status()).facts
            assert (facts["writing"], facts["waiting"]) == (4, 1)
            one.release()
            two.release()
            assert {complete.source for complete in await asyncio.gather(*writing)} == {"ollama"}
