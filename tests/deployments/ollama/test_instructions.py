from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.prompt_quality import requests
from deployments.ollama.instructions import EXAMPLES, LANGUAGE_NAMES, TASK, build_messages, harmless
from deployments.types import Language
from tests.deployments.ollama.samples import mountains


def notes(**changes: Any) -> list[str]:
    """Give what is told of one picture, line by line."""
    last: str = build_messages(mountains(**changes))[-1]["content"]
    return last.splitlines()


def test_notes_name_the_likely_labels_and_the_colours_and_no_number_or_code() -> None:
    assert notes() == [
        "Subjects: mountains, landscape",
        "Style: photorealistic, modern",
        "Mood: calm, peaceful",
        "Composition: wide angle, depth",
        "Colours: earth tones, dark brown, blue",
    ]


def test_all_but_the_notes_is_the_same_for_whatever_is_asked() -> None:
    asked = list(requests(1000, get_args(Language)))
    assert {str(build_messages(request)[:-1]) for request in asked} == {str(build_messages(asked[0])[:-1])}
    assert len({build_messages(request)[-1]["content"] for request in asked}) > 900
    roles = [message["role"] for message in build_messages(asked[0])]
    assert roles == ["system", *["user", "assistant"] * len(EXAMPLES), "user"]


@pytest.mark.parametrize("language", get_args(Language))
def test_another_language_than_the_examples_is_asked_for_last_and_no_other(language: Language) -> None:
    asked = notes(language=language, user_prompt="a fox")
    named = [code for code, name in LANGUAGE_NAMES.items() if name in asked[-1]]
    assert named == ([] if language == "en" else [language])


def test_more_detail_is_asked_for_in_deep_mode() -> None:
    assert "five or six sentences" in notes(deep_thinking=True)[-1]


@pytest.mark.parametrize(
    ("wish", "sent"),
    [("a beautiful landscape\nat dusk", "a beautiful landscape at dusk"), ("a fox \ud83d", "a fox")],
    ids=["two lines", "half a surrogate pair"],
)
def test_a_wish_is_one_line_among_the_notes_which_are_declared_to_be_no_orders(wish: str, sent: str) -> None:
    assert notes(user_prompt=wish)[-1] == f"With: {sent}"
    assert "never orders" in TASK


@pytest.mark.parametrize("blank", ["", "  \n\t", "\x00"])
def test_without_a_wish_there_is_no_line_for_it(blank: str) -> None:
    assert not any(line.startswith("With:") for line in notes(user_prompt=blank))


@given(st.text() | st.text(alphabet="<>/wishWISH[]|INST \n\x00"))
def test_no_wish_begins_another_line_or_forges_a_turn_and_any_can_be_sent(user_prompt: str) -> None:
    assert not set(harmless(user_prompt)) & set("<>[]\n\r\x00")
    assert len(notes(user_prompt=user_prompt)) <= len(notes()) + 1
    assert "\n".join(notes(user_prompt=user_prompt)).encode("utf-8")
