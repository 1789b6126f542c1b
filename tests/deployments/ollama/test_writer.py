from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx
import pytest

from deployments.errors import DeadlinePassed, OllamaUnavailable, QueueFull
from deployments.ollama.settings import OllamaSettings
from deployments.ollama.template import compose
from deployments.ollama.writer import PromptWriter
from deployments.types import PromptComplete, PromptDelta, PromptRestart
from tests.deployments.ollama.samples import MOUNTAINS, collected, mountains, outcome, text_of
from tests.deployments.ollama.virtual_time import run_virtually
from tests.support.fake_ollama import Answer, FakeOllama, Pull

WORDS = ["A", " red", " fox", " in", " deep", " snow", "."]
SENTENCE = "".join(WORDS)


@asynccontextmanager
async def open_writer(*servers: FakeOllama, required: bool = False, **settings: Any) -> AsyncIterator[PromptWriter]:
    writer = PromptWriter(OllamaSettings(hosts=tuple(server.url for server in servers), **settings), required=required)
    try:
        yield writer
    finally:
        await writer.close()
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    async with asyncio.timeout(5):  # httpx leaves generators to the loop, which closes them in tasks that soon end
        await asyncio.gather(*left, return_exceptions=True)


async def test_ollama_writes_the_prompt() -> None:
    with FakeOllama(tokens=WORDS) as server:
        async with open_writer(server) as writer:
            events = await collected(writer.write(MOUNTAINS))
    assert outcome(events) == PromptComplete(SENTENCE, "ollama")
    assert text_of(events) == SENTENCE


@pytest.mark.parametrize(
    ("deep", "options"),
    [
        (False, {"temperature": 0.5, "num_predict": 150, "top_p": 0.9}),
        (True, {"temperature": 0.7, "num_predict": 300, "top_p": 0.9}),
    ],
)
async def test_what_is_asked_of_ollama(deep: bool, options: dict[str, float]) -> None:
    with FakeOllama(tokens=WORDS) as server:
        async with open_writer(server, keep_alive="30m") as writer:
            await collected(writer.write(mountains(deep_thinking=deep, user_prompt="dusk", language="ja")))
    body = server.chats[0].body
    assert (body["model"], body["stream"], body["keep_alive"]) == ("mistral:latest", True, "30m")
    assert body["options"] == options
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert "日本語" in body["messages"][0]["content"]
    assert "<wish>dusk</wish>" in body["messages"][1]["content"]


async def test_first_token_is_passed_on_before_there_is_a_second() -> None:
    with FakeOllama(Answer(WORDS, hold_at=1)) as server:
        async with open_writer(server) as writer, aclosing(writer.write(MOUNTAINS)) as events:
            assert await anext(events) == PromptDelta("A")
            server.release()
            assert outcome([event async for event in events]).prompt == SENTENCE


async def test_later_tokens_travel_together() -> None:
    with FakeOllama(tokens=["word "] * 140) as server:
        async with open_writer(server, flush_interval_s=0.2) as writer:
            events = await collected(writer.write(MOUNTAINS))
    assert text_of(events) == "word " * 140
    assert len(events) < 20


class SteadyOllama(httpx.AsyncBaseTransport):
    """Writes `tokens` tokens at `tokens_per_s` in every answer, however many there are."""

    def __init__(self, tokens: int, tokens_per_s: float) -> None:
        self._tokens = tokens
        self._interval_s = 1 / tokens_per_s

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        async def lines() -> AsyncIterator[bytes]:
            for number in range(self._tokens + 1):
                await asyncio.sleep(self._interval_s)
                done = number == self._tokens
                message = {"role": "assistant", "content": "" if done else "word "}
                yield json.dumps({"message": message, "done": done}).encode() + b"\n"

        return httpx.Response(200, content=lines())


@pytest.mark.parametrize(("answers", "pieces_each_per_s"), [(1, 50), (8, 50), (64, 20), (128, 10)])
def test_with_many_answers_at_a_time_the_pieces_get_longer_and_no_more(answers: int, pieces_each_per_s: float) -> None:
    async def scenario() -> None:
        settings = OllamaSettings(max_parallel=answers, max_pieces_per_s=1280)
        writer = PromptWriter(settings, required=True, transport=SteadyOllama(tokens=150, tokens_per_s=50))
        written = await asyncio.gather(*(collected(writer.write(MOUNTAINS)) for _ in range(answers)))
        took_s = asyncio.get_running_loop().time()
        assert took_s == pytest.approx(151 / 50)
        for events in written:
            assert text_of(events) == "word " * 150
            assert len(events) == pytest.approx(pieces_each_per_s * took_s, rel=0.1)
        await writer.close()

    run_virtually(scenario())


async def test_an_answer_cut_by_num_predict_is_an_answer() -> None:
    with FakeOllama(tokens=WORDS) as server:
        async with open_writer(server, num_predict_standard=3) as writer:
            assert outcome(await collected(writer.write(MOUNTAINS))) == PromptComplete("A red fox", "ollama")


@pytest.mark.parametrize(
    ("said", "prompt"),
    [
        ('"A red fox."', "A red fox."),
        ("Prompt: A red fox.\n", "A red fox."),
        ('Image prompt: "A red fox."', "A red fox."),
        ("「赤い狐」", "赤い狐"),
        ('"A" and "B"', '"A" and "B"'),
        ("A prompt: nothing to trim", "A prompt: nothing to trim"),
    ],
)
async def test_what_a_model_wraps_around_the_prompt_is_taken_off_the_whole(said: str, prompt: str) -> None:
    with FakeOllama(tokens=[said]) as server:
        async with open_writer(server) as writer:
            assert outcome(await collected(writer.write(MOUNTAINS))).prompt == prompt


async def test_an_endless_answer_is_cut_and_says_so() -> None:
    with FakeOllama(Answer(["word "], ending="endless")) as server:
        async with open_writer(server, max_prompt_chars=49) as writer:
            complete = outcome(await collected(writer.write(MOUNTAINS)))
        assert await server.wait_for_disconnect()
    assert (len(complete.prompt), complete.source) == (49, "ollama")
    assert "cut at 49 characters" in complete.warnings[0]


@pytest.mark.parametrize("hold_at", [0, 1], ids=["while the model loads", "between tokens"])
@pytest.mark.parametrize("way", ["close", "cancel"])
async def test_the_callers_leaving_stops_the_generation_and_frees_the_place(hold_at: int, way: str) -> None:
    with FakeOllama(Answer(WORDS, hold_at=hold_at)) as server:
        async with open_writer(server, max_parallel=1, max_waiting=0) as writer:
            events = writer.write(MOUNTAINS)
            if hold_at:
                await anext(events)
            if way == "close" and hold_at:
                await events.aclose()
            else:
                reading = asyncio.ensure_future(anext(events))
                assert await asyncio.to_thread(server.wait_until, lambda server: bool(server.chats))
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
            assert await server.wait_for_disconnect()
            assert not server.chats[0].finished
            server.answer = Answer(WORDS)
            assert outcome(await collected(writer.write(MOUNTAINS))).source == "ollama"


async def test_a_reader_who_dawdles_does_not_keep_others_from_their_turn() -> None:
    with FakeOllama(tokens=WORDS) as server:
        async with open_writer(server, max_parallel=1) as writer, aclosing(writer.write(MOUNTAINS)) as dawdler:
            await anext(dawdler)
            async with asyncio.timeout(5):
                assert outcome(await collected(writer.write(MOUNTAINS))).source == "ollama"


async def test_no_more_than_max_parallel_are_sent_to_ollama_and_the_rest_wait() -> None:
    with FakeOllama(Answer(WORDS, hold_at=1), parallel=8) as server:
        async with open_writer(server, max_parallel=2, max_waiting=4) as writer:
            writing = [asyncio.create_task(collected(writer.write(MOUNTAINS))) for _ in range(6)]
            assert await asyncio.to_thread(server.wait_until, lambda server: len(server.chats) == 2)
            status = await writer.status()
            assert (status.facts["writing"], status.facts["waiting"]) == (2, 4)
            with pytest.raises(QueueFull, match="try again in 5 s"):
                await anext(writer.write(MOUNTAINS))
            server.release()
            assert {outcome(events).source for events in await asyncio.gather(*writing)} == {"ollama"}
    assert (server.peak_parallel, len(server.chats)) == (2, 6)


async def test_a_caller_who_leaves_the_line_is_never_sent_to_ollama() -> None:
    with FakeOllama(Answer(WORDS, hold_at=1)) as server:
        async with open_writer(server, max_waiting=1) as writer:
            first = asyncio.create_task(collected(writer.write(MOUNTAINS)))
            assert await asyncio.to_thread(server.wait_until, lambda server: len(server.chats) == 1)
            leaver = asyncio.create_task(collected(writer.write(MOUNTAINS)))
            async with asyncio.timeout(5):
                while (await writer.status()).facts["waiting"] != 1:
                    pass
            leaver.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaver
            server.release()
            await first
            await collected(writer.write(MOUNTAINS))
    assert len(server.chats) == 2


async def test_without_a_server_the_prompt_is_composed_and_the_warning_says_what_to_start() -> None:
    with FakeOllama() as server:
        pass
    async with open_writer(server) as writer:
        events = await collected(writer.write(mountains(language="es")))
    composed = compose(MOUNTAINS)
    assert events[0] == PromptDelta(composed)
    complete = outcome(events)
    assert (complete.prompt, complete.source) == (composed, "template")
    assert "ollama serve" in complete.warnings[0]
    assert "Spanish" in complete.warnings[1]


async def test_ollama_is_found_again_by_the_first_request_after_it_is_back() -> None:
    server = FakeOllama(tokens=WORDS)
    server.start()
    async with open_writer(server) as writer:
        for _ in range(3):
            assert outcome(await collected(writer.write(MOUNTAINS))).source == "ollama"
            assert (await writer.status()).state == "ready"
            server.stop()
            assert outcome(await collected(writer.write(MOUNTAINS))).source == "template"
            assert (await writer.status()).state == "fallback"
            server.start()
    server.stop()


async def test_an_absent_model_gives_a_composed_prompt_and_the_command() -> None:
    with FakeOllama(models=[]) as server:
        async with open_writer(server) as writer:
            complete = outcome(await collected(writer.write(MOUNTAINS)))
            status = await writer.status()
    assert complete.source == "template"
    assert "ollama pull mistral:latest" in complete.warnings[0]
    assert (status.state, status.active) == ("fallback", "template")
    assert "ollama pull mistral:latest" in status.remedy
    assert all(exchange.path != "/api/pull" for exchange in server.exchanges)


@pytest.mark.parametrize("ending", ["error", "broken_line", "cut", "quiet", "stall"])
async def test_a_failure_midway_voids_the_text_so_far_and_starts_over(ending: Any) -> None:
    with FakeOllama(Answer(["A red"], ending=ending)) as server:
        async with open_writer(server, token_gap_timeout_s=0.1) as writer:
            events = await collected(writer.write(MOUNTAINS))
    composed = compose(MOUNTAINS)
    first, restart, *rest = events
    assert first == PromptDelta("A red")
    assert isinstance(restart, PromptRestart)
    assert restart.reason
    assert rest == [PromptDelta(composed), PromptComplete(composed, "template", (restart.reason,))]


async def test_a_server_killed_midway_is_a_failure_midway() -> None:
    server = FakeOllama(Answer(WORDS, hold_at=1))
    server.start()
    async with open_writer(server) as writer, aclosing(writer.write(MOUNTAINS)) as events:
        first = await anext(events)
        server.stop()
        rest = [event async for event in events]
    assert isinstance(rest[0], PromptRestart)
    assert text_of([first, *rest]) == outcome(rest).prompt == compose(MOUNTAINS)


async def test_an_answer_of_quotation_marks_only_is_no_prompt() -> None:
    with FakeOllama(tokens=['""']) as server:
        async with open_writer(server) as writer:
            assert outcome(await collected(writer.write(MOUNTAINS))).prompt == compose(MOUNTAINS)


@pytest.mark.parametrize(
    ("answer", "models", "told"),
    [
        (Answer(), [], "ollama pull mistral:latest"),
        (Answer(status=500), ["mistral"], "an error was encountered"),
        (Answer(["A"], ending="cut"), ["mistral"], "broke off"),
    ],
)
async def test_where_ollama_is_required_nothing_stands_in(answer: Answer, models: list[str], told: str) -> None:
    with FakeOllama(answer, models=models) as server:
        async with open_writer(server, required=True) as writer:
            with pytest.raises(OllamaUnavailable, match=told) as caught:
                await collected(writer.write(MOUNTAINS))
    assert caught.value.retry_after_s == 5


async def test_where_ollama_is_required_and_down_health_says_so() -> None:
    with FakeOllama() as server:
        pass
    async with open_writer(server, required=True) as writer:
        status = await writer.status()
        assert (status.state, status.active) == ("unavailable", "none")
        assert "ollama serve" in status.remedy
        with pytest.raises(OllamaUnavailable, match="ollama serve"):
            await anext(writer.write(MOUNTAINS))


def test_closing_the_writer_leaves_no_pull_behind() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/pull":
            await asyncio.sleep(60)
        return httpx.Response(200, json={"models": []})

    async def scenario() -> None:
        settings = OllamaSettings(auto_pull=True)
        writer = PromptWriter(settings, required=False, transport=httpx.MockTransport(answer))
        await writer.status()
        assert len(asyncio.all_tasks()) == 2
        await writer.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtually(scenario())


class SlowOllama(httpx.AsyncBaseTransport):
    """Takes `pause_s` to the first token of every answer, and to a list of models."""

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(self._pause_s)
        lines = [{"message": {"role": "assistant", "content": text}, "done": not text} for text in ("A fox", "")]
        return httpx.Response(200, text="\n".join(map(json.dumps, lines)))


def test_time_in_line_counts_towards_the_deadline() -> None:
    async def scenario() -> None:
        writer = PromptWriter(OllamaSettings(), required=False, transport=SlowOllama(100))
        loop = asyncio.get_running_loop()
        writing = [asyncio.create_task(collected(writer.write(MOUNTAINS))) for _ in range(3)]
        first, second, third = [outcome(await task) for task in writing]
        assert loop.time() == pytest.approx(150)
        assert [first.source, second.source, third.source] == ["ollama", "template", "template"]
        assert "150 s" in second.warnings[0]
        assert "150 s" in third.warnings[0]
        await writer.close()

    run_virtually(scenario())


def test_a_required_ollama_that_is_too_slow_is_a_deadline_passed() -> None:
    async def scenario() -> None:
        writer = PromptWriter(OllamaSettings(), required=True, transport=SlowOllama(121))
        with pytest.raises(DeadlinePassed, match="no first token within 120 s"):
            await anext(writer.write(MOUNTAINS))
        await writer.close()

    run_virtually(scenario())


def test_health_does_not_hang_with_the_server() -> None:
    async def scenario() -> None:
        writer = PromptWriter(OllamaSettings(), required=False, transport=SlowOllama(1000))
        status = await writer.status()
        assert asyncio.get_running_loop().time() == pytest.approx(2)
        assert (status.state, "did not list its models within 2 s" in status.reason) == ("fallback", True)
        await writer.close()

    run_virtually(scenario())


async def test_a_pull_runs_once_shows_its_progress_and_then_ollama_writes() -> None:
    with FakeOllama(Answer(WORDS), models=[], pull=Pull(steps=4, hold_at=3)) as server:
        async with open_writer(server, auto_pull=True) as writer:
            first = outcome(await collected(writer.write(MOUNTAINS)))
            assert first.source == "template"
            assert "pulling mistral:latest" in first.warnings[0]
            async with asyncio.timeout(5):
                while (status := await writer.status()).facts["pull_percent"] != 75:
                    pass
            assert status.state == "fallback"
            assert "75 %" in status.reason
            assert "75 %" in outcome(await collected(writer.write(MOUNTAINS))).warnings[0]
            server.release()
            async with asyncio.timeout(5):
                while (await writer.status()).state != "ready":
                    pass
            assert outcome(await collected(writer.write(MOUNTAINS))).source == "ollama"
    assert [exchange.path for exchange in server.exchanges].count("/api/pull") == 1


async def test_a_required_model_is_pulled_although_health_keeps_requests_away() -> None:
    with FakeOllama(models=[]) as server:
        async with open_writer(server, required=True, auto_pull=True) as writer:
            async with asyncio.timeout(5):
                while (await writer.status()).state != "ready":
                    pass


async def test_a_pull_that_failed_is_told_with_its_reason_and_tried_again() -> None:
    with FakeOllama(models=[], pull=Pull(error="pull model manifest: file does not exist")) as server:
        async with open_writer(server, auto_pull=True) as writer:
            await collected(writer.write(MOUNTAINS))
            async with asyncio.timeout(5):
                while "file does not exist" not in (await writer.status()).reason:
                    pass
            told = outcome(await collected(writer.write(MOUNTAINS))).warnings[0]
            assert "file does not exist" in told
            server.pull = Pull()
            async with asyncio.timeout(5):
                while (await writer.status()).state != "ready":
                    pass
            server.models.clear()
            assert "file does not exist" not in (await writer.status()).reason


async def test_a_pull_without_progress_is_given_up_and_told() -> None:
    with FakeOllama(models=[], pull=Pull(hold_at=1)) as server:
        async with open_writer(server, auto_pull=True, pull_stall_timeout_s=0.05) as writer:
            async with asyncio.timeout(5):
                while "no progress for 0.05 s" not in (await writer.status()).reason:
                    pass


async def test_closing_the_writer_stops_a_pull() -> None:
    with FakeOllama(models=[], pull=Pull(hold_at=1)) as server:
        async with open_writer(server, auto_pull=True) as writer:
            await collected(writer.write(MOUNTAINS))
            assert await asyncio.to_thread(
                server.wait_until, lambda server: any(e.path == "/api/pull" for e in server.exchanges)
            )
        assert await server.wait_for_disconnect()


async def test_where_one_server_fails_another_writes_and_the_first_is_left_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "image_analyzer.ollama")
    broken = Answer(status=500, error="out of memory")
    with FakeOllama(broken) as one, FakeOllama(Answer(tokens=WORDS)) as two:
        async with open_writer(one, two) as writer:
            for _ in range(3):
                assert outcome(await collected(writer.write(mountains()))) == PromptComplete(SENTENCE, "ollama")
    assert (len(one.chats), len(two.chats)) == (1, 3)
    assert caplog.messages[0] == f"{one.url} is left alone for 30 s: Ollama failed: out of memory."
    assert caplog.messages[1].startswith(f"{two.url} wrote a prompt in ")


async def test_a_server_that_is_down_costs_nobody_a_prompt_and_is_found_again() -> None:
    with FakeOllama(Answer(tokens=WORDS)) as up, FakeOllama(Answer(tokens=WORDS)) as down:
        down.stop()
        async with open_writer(down, up, server_rest_s=0.01) as writer:
            for _ in range(3):
                assert outcome(await collected(writer.write(mountains()))).source == "ollama"
            status = await writer.status()
            assert (status.state, len(up.chats)) == ("ready", 3)
            assert (
                status.facts["not_writing"]
                == f"Ollama does not answer at {down.url}. Start it there with: ollama serve"
            )
            down.start()
            await asyncio.sleep(0.05)
            for _ in range(2):
                await collected(writer.write(mountains()))
            assert (len(down.chats), "not_writing" in (await writer.status()).facts) == (1, False)


async def test_a_stream_never_changes_its_server_midway() -> None:
    with FakeOllama(Answer(tokens=WORDS, ending="cut")) as one, FakeOllama(Answer(tokens=WORDS)) as two:
        async with open_writer(one, two) as writer:
            events = await collected(writer.write(mountains()))
    assert (outcome(events).source, len(two.chats)) == ("template", 0)
    assert sum(isinstance(event, PromptRestart) for event in events) == 1


async def test_prompts_written_at_the_same_time_are_spread_over_the_servers() -> None:
    answer = Answer(tokens=WORDS, hold_at=1)
    with FakeOllama(answer) as one, FakeOllama(answer) as two:
        async with open_writer(one, two, max_parallel=2) as writer:
            writing = [asyncio.create_task(collected(writer.write(mountains()))) for _ in range(5)]
            for server in (one, two):
                assert await asyncio.to_thread(server.wait_until, lambda s: len(s.chats) == 2)
            assert ((await writer.status()).facts["writing"], (await writer.status()).facts["waiting"]) == (4, 1)
            one.release()
            two.release()
            assert [outcome(events).source for events in await asyncio.gather(*writing)] == ["ollama"] * 5


async def test_every_server_without_the_model_is_told_to_pull_it() -> None:
    with FakeOllama(models=[]) as one, FakeOllama(models=[]) as two:
        async with open_writer(one, two, auto_pull=True) as writer:
            await writer.status()
            for server in (one, two):
                assert await asyncio.to_thread(server.wait_until, lambda s: s.models == ["mistral:latest"])


async def test_of_two_that_were_down_the_one_that_is_back_writes_and_the_other_costs_nothing() -> None:
    with FakeOllama(Answer(tokens=WORDS)) as back, FakeOllama(Answer(tokens=WORDS)) as down:
        back.stop()
        down.stop()
        async with open_writer(down, back) as writer:
            assert outcome(await collected(writer.write(mountains()))).source == "template"
            back.start()
            sources = [outcome(await collected(writer.write(mountains()))).source for _ in range(6)]
        down.start()
    assert sources[-4:] == ["ollama"] * 4
