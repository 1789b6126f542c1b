"""What the writer streams for a target: the prompt as it will stand, from any answer of a model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployments.errors import InvalidForm
from deployments.ollama.instructions import build_messages
from deployments.ollama.settings import DEFAULT_TARGETS_FILE, OllamaSettings
from deployments.ollama.targets import load_targets
from deployments.ollama.writer import CUT, PromptWriter
from deployments.types import PromptComplete, PromptDelta, PromptEvent, PromptRequest, PromptRestart, SpentBudget
from tests.deployments.ollama.samples import MODEL, TimedOllama, collected, mountains, outcome, text_of
from tests.support.fake_ollama import Answer, FakeOllama

TARGETS = [name for name in load_targets(DEFAULT_TARGETS_FILE).root if name not in ("prose", "tags")]
PHRASES = ["a red fox in deep snow, ", "golden hour, soft light, ", "pine trees", ", frost"]


def asked(target: str, **options: Any) -> PromptRequest:
    return replace(mountains(target=target, **options), aspect_ratio="3:2")


async def events_of(server: FakeOllama | TimedOllama, request: PromptRequest, **settings: Any) -> list[PromptEvent]:
    at, transport = (server.url, None) if isinstance(server, FakeOllama) else ("http://localhost:11434", server)
    writer = PromptWriter(OllamaSettings(hosts=(at,), **settings), required=False, transport=transport)
    try:
        return await collected(writer.write(request))
    finally:
        await writer.close()


async def test_a_target_gets_its_note_its_room_and_its_fixed_parts() -> None:
    with FakeOllama(tokens=PHRASES) as server:
        events = await events_of(server, asked("pony", user_prompt="a fox without people", seed=1))
    body = server.chats[0].body
    assert body["messages"][:-1] == build_messages(mountains())[:-1]
    notes = body["messages"][-1]["content"].splitlines()
    assert (notes[-2], "at most 39 words" in notes[-1]) == ("With: a fox", True)
    assert body["options"]["num_predict"] == 97
    complete = outcome(events)
    assert complete.prompt == (
        "score_9, score_8_up, score_7_up, rating_safe, "
        "a red fox in deep snow, golden hour, soft light, pine trees, frost"
    )
    assert text_of(events) == complete.prompt
    assert (complete.source, complete.model, complete.target, complete.truncated) == ("ollama", MODEL, "pony", False)
    assert (complete.negative or "").startswith("people, score_6, ")
    assert complete.budget == SpentBudget(37, 75, "clip_tokens")


async def test_a_prompt_is_shown_while_it_is_written_and_ended_where_its_budget_is() -> None:
    words = [f"thing {number}, " for number in range(40)]
    with FakeOllama(Answer(words, hold_at=8, ending="endless")) as server:
        writer = PromptWriter(OllamaSettings(hosts=(server.url,)), required=True)
        async with aclosing(writer.write(asked("illustrious", length="short"))) as stream:
            first = await anext(stream)
            server.release()
            events = [first, *[event async for event in stream]]
        assert await server.wait_for_disconnect(), "what does not fit is not waited for"
        await writer.close()
    assert isinstance(first, PromptDelta)
    fixed = "masterpiece, best quality, newest, absurdres, highres, safe, no humans"
    assert first.text.startswith(f"{fixed}, thing 0, thing 1")
    complete = outcome(events)
    assert (complete.truncated, complete.warnings) == (True, ("Not all of it fits into 40 tokens of CLIP.",))
    assert text_of(events) == complete.prompt
    assert not any(isinstance(event, PromptRestart) for event in events)


async def test_tags_ask_no_model_even_where_one_is_required() -> None:
    with FakeOllama(tokens=PHRASES) as server:
        writer = PromptWriter(OllamaSettings(hosts=(server.url,)), required=True)
        events = await collected(writer.write(asked("tags", length="short")))
        await writer.close()
    assert server.exchanges == []
    assert outcome(events) == PromptComplete(
        "photorealistic, wide angle, earth tones, mountains, calm",
        "template",
        target="tags",
        budget=SpentBudget(5, 5, "phrases"),
    )


async def test_without_a_server_every_target_is_served() -> None:
    with FakeOllama() as down:
        pass
    for target in TARGETS:
        complete = outcome(await events_of(down, asked(target)))
        assert (complete.source, complete.target, bool(complete.prompt)) == ("template", target, True)
        assert "ollama serve" in complete.warnings[0]


async def test_what_a_model_says_again_and_again_is_taken_back_where_it_was_shown() -> None:
    loop = ["Snow lies on the hills. ", *["The fox sees the moon and stars, "] * 6]
    with FakeOllama(tokens=loop) as server:
        events = await events_of(server, asked("sd35"))
    complete = outcome(events)
    assert (text_of(events), complete.truncated, complete.warnings) == (complete.prompt, True, (CUT,))
    assert complete.prompt.count("moon") == 1


@pytest.mark.parametrize("said", ["...", "", "score_9, rating_safe"])
async def test_an_answer_that_says_nothing_of_the_picture_is_none(said: str) -> None:
    with FakeOllama(tokens=[said]) as server:
        assert outcome(await events_of(server, asked("pony"))).source == "template"


async def test_a_thought_is_no_part_of_it() -> None:
    said = ["<think>", "A fox, snow, and more of a thought than is held back", "</think>", *PHRASES]
    with FakeOllama(tokens=said) as server:
        events = await events_of(server, asked("sdxl"))
    assert text_of(events) == outcome(events).prompt == "".join(PHRASES)


ANSWERS = st.lists(
    st.sampled_from(["a fox", ", ", ". ", "</think>", "<think>", "\n", "--ar 1:1", "(snow)", "sees the moon", " "]),
    max_size=30,
)


@pytest.mark.parametrize("target", ["flux2", "midjourney", "sdxl"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(tokens=ANSWERS)
async def test_what_was_shown_is_what_stands_whatever_is_said(target: str, tokens: Sequence[str]) -> None:
    server = TimedOllama(*((0.0, token) for token in tokens if token))
    events = await events_of(server, asked(target))
    complete = outcome(events)
    assert text_of(events) == complete.prompt
    assert complete.budget is not None
    assert complete.budget.spent <= complete.budget.limit


async def test_prose_of_another_length_is_asked_for_in_other_words() -> None:
    with FakeOllama(tokens=["A red fox in deep snow, under a low winter sun."]) as server:
        for length, deep in ((None, False), ("short", False), ("long", False), (None, True), ("short", True)):
            await events_of(server, mountains(length=length, deep_thinking=deep))
    bodies = [chat.body for chat in server.chats]
    options = [(body["options"]["num_predict"], body["options"]["temperature"]) for body in bodies]
    assert options == [(150, 0.5), (150, 0.5), (300, 0.5), (300, 0.7), (150, 0.7)]
    notes = [body["messages"][-1]["content"] for body in bodies]
    assert notes[1] == notes[4] == f"{notes[0]}\nWrite one sentence."
    assert notes[2] == notes[3] != notes[0]


OURS = {
    "prose": {"title": "P", "help": "P.", "shape": "prose"},
    "ours": {
        "title": "O",
        "help": "O.",
        "shape": "tags",
        "budget": {"unit": "phrases", "short": 1, "medium": 2, "long": 3},
    },
}


async def test_targets_are_changed_while_it_serves_and_nonsense_is_refused() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"models": [{"model": MODEL}]}))
    writer = PromptWriter(OllamaSettings(), required=False, transport=transport)
    await writer.reconfigure({"targets": OURS})
    assert [target.name for target in await writer.targets()] == ["prose", "ours"]
    assert outcome(await collected(writer.write(asked("ours")))).prompt == "photorealistic, wide angle"
    with pytest.raises(InvalidForm, match="send one of prose, ours"):
        await collected(writer.write(asked("sdxl")))
    await writer.reconfigure({"targets": {"ours": OURS["ours"]}})
    status = await writer.status()
    assert (status.state, status.active) == ("fallback", "ollama")
    assert "user_config: targets: Value error, prose must be there" in status.reason
    assert "user_config of OllamaDeployment" in status.remedy
    assert [target.name for target in await writer.targets()] == ["prose", "ours"]
    await writer.reconfigure({"targets": None})
    assert ((await writer.status()).state, len(await writer.targets())) == ("ready", 14)
    await writer.close()


async def test_the_configured_target_is_for_who_names_none_and_must_be_there() -> None:
    with FakeOllama(tokens=PHRASES) as server:
        writer = PromptWriter(OllamaSettings(hosts=(server.url,), target="tags"), required=False)
        assert outcome(await collected(writer.write(mountains()))).target == "tags"
        await writer.reconfigure({"targets": OURS})
        assert "'ollama.target' is 'tags'" in str((await writer.status()).facts["refused_change"])
        await writer.close()
