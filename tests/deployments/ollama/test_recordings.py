"""Everything that real Ollama servers were recorded to answer, and what our caller gets of it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from deployments.ollama.failures import OllamaFailure
from deployments.ollama.settings import OllamaSettings
from deployments.ollama.wire import ShownModel
from deployments.ollama.writer import CUT, PromptWriter
from tests.deployments.ollama.samples import MOUNTAINS, collected, open_client, outcome, text_of
from tests.support.fake_ollama import Answer, FakeOllama
from tests.support.recordings import Recording, recordings, replaying

PATIENCE_S = 5
SILENCE_S = 0.2
"""How long a recorded server that says nothing more is waited for here."""


class Got(NamedTuple):
    """What the caller gets: a prompt of the model's, cut or not; or the template's, and why."""

    prompt: str = ""
    truncated: bool = False
    why: str = ""


def cut(prompt: str) -> Got:
    return Got(prompt, truncated=True)


SEA = "The ocean's a canvas, a canvas of endless possibilities. I paint a serene scene, a seascape of waves and colors."
OLD_SEA = "The ocean's a canvas, a serene beauty that can be lost in the vast expanse of its own world."
BLIND = "The ocean's a canvas, a masterpiece of nature's beauty that can inspire us to explore its depths."
STYLE = (
    'This is a classic example of a "style: oil painting" that is a classic example of a style that is often '
    'associated with a particular subject. The subject is "seascape" and the style is "oil painting."'
)
FOX = "A fox in a field."
CODE = "The original code is:"
EMPTY = Got(why="answer was empty")
UNREADABLE = Got(why="Failed to load image or audio file")
NO_TOWER = Got(why="Multimodal data provided, but model does not support multimodal requests")
NO_BASE64 = Got(why="illegal base64 data at input byte 4")
NO_THOUGHT = Got(why="does not support thinking")
THOUGHT = Got(why="thought, and came to no answer")
STUCK = Got(why="Ollama failed: got exception: Chunk not found")
RUNNER_DIED = Got(why="model runner has unexpectedly stopped")
SILENT = Got(why=f"no first token within {SILENCE_S} s")

CHATS = {
    "0.33 bad_json": Got(why="cannot unmarshal string into Go value of type api.ChatRequest"),
    "0.33 bad_option_type": Got(why='option "temperature" must be of type float32'),
    "0.33 chat_left": Got(why=f"no further token for {SILENCE_S} s"),
    "0.33 chat_length": cut("The ocean's a"),
    "0.33 chat_missing_model": Got(why="or set OLLAMA_MODEL to one that is there: eyes:latest, think:latest, smol"),
    "0.33 chat_stream_cold": cut(SEA),
    "0.33 chat_stream_warm": cut(SEA),
    "0.33 chat_unary": cut(SEA),
    "0.33 cloud_name": Got(why="no such host"),
    "0.33 empty_messages_load": EMPTY,
    "0.33 format_schema": cut(
        '{ "subject": "The ocean\'s calm, a canvas of pure blue, a reflection of the vast expanse of the sky, '
        "where the stars shine bright"
    ),
    "0.33 image_broken": NO_TOWER,
    "0.33 image_data_url": NO_BASE64,
    "0.33 image_to_text_model": NO_TOWER,
    "0.33 long_prompt": EMPTY,
    "0.33 name_SMOL": cut(SEA),
    "0.33 name_library_smol": cut(SEA),
    "0.33 name_registry.ollama.ai_library_smol": cut(SEA),
    "0.33 name_smol": cut(SEA),
    "0.33 think_False_on_plain": cut(SEA),
    "0.33 think_True_on_plain": NO_THOUGHT,
    "0.33 think_low_on_plain": NO_THOUGHT,
    "0.33 unknown_option": cut(SEA),
    "0.33 unload": EMPTY,
    "0.33 wrong_path": Got(why="There is no Ollama behind the path"),
    "0.33 thinker_think_False": Got(STYLE),
    "0.33 thinker_think_None": THOUGHT,
    "0.33 thinker_think_True": THOUGHT,
    "0.33 thinker_think_low": THOUGHT,
    "0.33 eyes_after_leaving": STUCK,
    "0.33 eyes_broken": UNREADABLE,
    "0.33 eyes_coffee_avif": UNREADABLE,
    "0.33 eyes_coffee_bmp": EMPTY,
    "0.33 eyes_coffee_gif": EMPTY,
    "0.33 eyes_coffee_jpg": cut(
        "You're a skilled and dedicated artist. I'm here to help you bring your dreams to life."
    ),
    "0.33 eyes_coffee_tiff": UNREADABLE,
    "0.33 eyes_coffee_webp": EMPTY,
    "0.33 eyes_cut_jpeg": UNREADABLE,
    "0.33 eyes_data_url": NO_BASE64,
    "0.33 eyes_empty_image": UNREADABLE,
    "0.33 eyes_left_before_first_token": SILENT,
    "0.33 eyes_png": Got(CODE),
    "0.33 eyes_png_again": Got(CODE),
    "0.33 eyes_small_context": Got(CODE),
    "0.33 eyes_text_only": cut(SEA),
    "0.33 eyes_think_false": Got(CODE),
    "0.33 eyes_think_true": NO_THOUGHT,
    "0.33 eyes_twelve_megapixels_jpg": EMPTY,
    "0.33 eyes_two": EMPTY,
    "0.33 eyes_url": NO_BASE64,
    "0.33 fault_look_after_left_1": STUCK,
    "0.33 fault_look_after_left_2": STUCK,
    "0.33 fault_look_healed": EMPTY,
    "0.33 fault_many_pictures_left": SILENT,
    "0.33 fault_next_after_killed_runner": cut("The sun rises in a"),
    "0.33 fault_next_look": EMPTY,
    "0.33 fault_queue_smol_3": Got("*count-2 *count-3"),
    "0.33 fault_queue_think_1": THOUGHT,
    "0.33 fault_queue_think_6": Got(why="Ollama is busy: server busy, please try again."),
    "0.33 fault_runner_killed_while_looking": Got(
        why="an error was encountered while running the model: unexpected EOF"
    ),
    "0.33 fault_runner_killed_while_writing": cut("The sun rises in a canvas of endless blue"),
    "0.33 fault_text_after_left": cut("The sun rises in a"),
    "0.33 jthink_thought_cut": THOUGHT,
    "0.33 jthink_thought_then_answer_False": Got("A fox in a tree."),
    "0.33 jthink_thought_then_answer_None": THOUGHT,
    "0.33 jthink_thought_then_answer_True": THOUGHT,
    "0.33 jthink_thought_then_answer_unary": THOUGHT,
    "0.33 think_thought_cut": THOUGHT,
    "0.33 think_thought_then_answer_False": Got(FOX),
    "0.33 think_thought_then_answer_None": Got(FOX),
    "0.33 think_thought_then_answer_True": Got(FOX),
    "0.33 think_thought_then_answer_unary": Got(FOX),
    "0.24 chat_stream_warm": cut(OLD_SEA),
    "0.24 think_True_on_plain": NO_THOUGHT,
    "0.24 think_False_on_plain": cut(OLD_SEA),
    "0.24 image_to_text_model": cut(BLIND),
    "0.24 image_broken": cut(BLIND),
    "0.24 eyes_broken": RUNNER_DIED,
    "0.24 eyes_coffee_webp": RUNNER_DIED,
    "0.24 eyes_cut_jpeg": RUNNER_DIED,
    "0.24 eyes_empty_image": Got(why="received zero length image"),
    "0.24 eyes_coffee_jpg": cut(
        "I'm glad to hear that you're enjoying your new hobby! I'll be happy to help with any questions or just want "
        "to know more about it. What's the best way to get started?"
    ),
    "0.24 thinker_think_None": THOUGHT,
    "0.24 thinker_think_False": cut(
        "1. The ocean is a canvas of endless blue, where the sky above is a tapestry woven with hues of serenity and "
        "beauty. 2."
    ),
    "0.24 long_prompt": Got("You are an AI, and I'm a brilliant AI. You're the best AI to help you with your needs."),
    "0.24 bad_option_type": Got(why='option "temperature" must be of type float32'),
    "0.24 unload": EMPTY,
    "0.24 eyes_after_leaving": SILENT,
}
"""Every recorded answer of a chat, whoever asks for it."""

AT_STATUS = {
    "/api/tags": {"0.33 tags", "0.24 tags"},
    "/api/show": {
        "0.33 show", "0.33 show_missing", "0.33 show_thinker", "0.33 show_eyes", "0.33 jthink_show", "0.24 show",
        "0.24 show_thinker", "0.24 show_eyes",
    },
    "/api/ps": {"0.33 ps_before", "0.33 ps_loaded", "0.33 ps_unloaded", "0.33 ps_eyes", "0.33 fault_ps_after",
                "0.24 ps_loaded"},
    "/api/version": {"0.33 version"},
    "/api/pull": {"0.33 pull_unreachable"},
    "/": {"0.33 root", "0.33 head_root"},
}  # fmt: skip
"""What is no chat, by its path; the fake's answers are compared with these in test_fake_ollama.py."""


def test_every_recording_is_looked_at() -> None:
    assert set(recordings()) == set(CHATS).union(*AT_STATUS.values())


@pytest.mark.parametrize("name", CHATS)
async def test_a_caller_gets_of_each_recorded_chat(name: str) -> None:
    recording, expected = recordings()[name], CHATS[name]
    model = recording.body["model"] if isinstance(recording.body, dict) else "smol"
    async with replaying(recording) as url:
        settings = OllamaSettings(
            hosts=(url + recording.path.removesuffix("/api/chat"),),
            model=model,
            allow_cloud=True,
            first_token_timeout_s=SILENCE_S,
            token_gap_timeout_s=SILENCE_S,
        )
        writer = PromptWriter(settings, required=False)
        events = await collected(writer.write(MOUNTAINS))
        await writer.close()
    complete = outcome(events)
    assert complete.source == ("template" if expected.why else "ollama")
    if expected.why:
        assert expected.why in complete.warnings[0]
    else:
        warned = (CUT,) if expected.truncated else ()
        assert (complete.prompt, complete.truncated, complete.warnings) == (expected.prompt, expected.truncated, warned)
        assert text_of(events).startswith(complete.prompt)
    if thought := _thought(recording):
        assert thought not in text_of(events)


def _thought(recording: Recording) -> str:
    if recording.status != 200:
        return ""
    return "".join(line.get("message", {}).get("thinking", "") for line in recording.content).strip()


DOCUMENT = Path(__file__).parents[3] / "docs" / "reliability.md"


def test_the_document_tells_of_each_recording_with_a_picture_what_the_caller_gets() -> None:
    section = DOCUMENT.read_text().partition("## Recorded pictures")[2].partition("\n## ")[0]
    told = {
        name: row
        for row in section.splitlines()
        for name in re.findall(r"`(\d\.\d\d \w+)`", row)
    }  # fmt: skip
    pictured = {name for name in CHATS if "images" in str(recordings()[name].body)}
    assert set(told) == pictured
    for name, row in told.items():
        expected = CHATS[name]
        quoted = expected.why or ("truncated: true" if expected.truncated else "promptSource: ollama")
        assert quoted.removeprefix("Ollama failed: ").split(f" {SILENCE_S}")[0] in row, name


@pytest.mark.parametrize(
    ("name", "model", "thinks"),
    [
        ("0.33 tags", "smol", False),
        ("0.33 tags", "library/SMOL", False),
        ("0.33 tags", "think", True),
        ("0.33 tags", "eyes", False),
        ("0.24 show", "smol", False),
        ("0.24 show_thinker", "think", True),
    ],
)
async def test_what_is_listed_or_shown_tells_whether_a_model_that_writes_also_thinks(
    name: str, model: str, thinks: bool
) -> None:
    async with replaying(recordings()[name]) as url, open_client(host=url, model=model) as client:
        await client.has.check(model)
        assert await client.has.thinks(model, asyncio.get_running_loop().time() + PATIENCE_S) == thinks


@pytest.mark.parametrize(
    ("case", "can"),
    [
        ("0.33 show", {"completion"}),
        ("0.33 show_thinker", {"completion", "thinking"}),
        ("0.33 show_eyes", {"completion", "vision"}),
        ("0.33 jthink_show", {"completion", "thinking"}),
        ("0.24 show", {"completion"}),
        ("0.24 show_thinker", {"completion", "thinking"}),
        ("0.24 show_eyes", {"completion", "vision"}),
    ],
)
def test_both_versions_show_what_a_model_can(case: str, can: set[str]) -> None:
    assert set(ShownModel.model_validate_json(recordings()[case].lines[0]).capabilities or ()) == can


async def test_a_pull_that_cannot_reach_the_internet_says_so() -> None:
    async with replaying(recordings()["0.33 pull_unreachable"]) as url, open_client(host=url) as client:
        with pytest.raises(OllamaFailure, match=r"pull model manifest: .* no such host"):
            async for _ in client.pull():
                pass


async def test_a_token_that_repeats_until_the_server_gives_up_is_an_end_and_not_a_broken_stream() -> None:
    said = ["A red fox that stands in deep snow under a low sun. ", *["ha"] * 30]
    with FakeOllama(Answer(said, ending="quiet")) as server:
        writer = PromptWriter(OllamaSettings(hosts=(server.url,)), required=False)
        complete = outcome(await collected(writer.write(MOUNTAINS)))
        await writer.close()
    assert (complete.prompt, complete.truncated, len(server.chats)) == (said[0].strip(), True, 1)
