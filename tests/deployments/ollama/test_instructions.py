from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.ollama.instructions import LANGUAGE_NAMES, build_messages, fenced
from deployments.types import Language
from tests.deployments.ollama.samples import mountains


def system_and_user(**changes: Any) -> tuple[str, str]:
    system, user = build_messages(mountains(**changes))
    assert (system["role"], user["role"]) == ("system", "user")
    return system["content"], user["content"]


@pytest.mark.parametrize("language", get_args(Language))
def test_the_asked_language_is_named_and_no_other(language: Language) -> None:
    system, _ = system_and_user(language=language)
    assert [code for code, name in LANGUAGE_NAMES.items() if name in system] == [language]


def test_the_model_is_asked_for_the_prompt_and_told_every_label_and_colour_with_its_share() -> None:
    system, user = system_and_user()
    for wanted in ("one prompt", "nothing else", "no introduction", "no quotation marks", "One paragraph"):
        assert wanted in system
    assert "rich in detail" not in system
    assert "rich in detail" in system_and_user(deep_thinking=True)[0]
    assert user.splitlines() == [
        "style: photorealistic 62%, modern 20%, vintage 5%",
        "mood: calm 40%, peaceful 35%, epic 10%",
        "composition: wide angle 50%, depth 30%, minimal 10%",
        "color palette: earth tones 50%, muted 20%",
        "subjects: mountains 50%, landscape 30%, forest 10%",
        "measured colours: dark brown #4a3220 40%, blue #4682b4 30%",
    ]


def test_what_the_stand_in_can_only_guess_is_not_told_as_seen() -> None:
    seen, measured = system_and_user(), system_and_user(analyzer="pixels")
    assert [line.partition(":")[0] for line in measured[1].splitlines()] == [
        "mood",
        "composition",
        "color palette",
        "measured colours",
    ]
    assert ("vision model" in seen[0], "vision model" in measured[0]) == (True, False)
    assert "Nobody has seen what it shows" in measured[0]


@pytest.mark.parametrize(
    ("wish", "sent"),
    [("a beautiful landscape\nat dusk", "a beautiful landscape at dusk"), ("a fox \ud83d", "a fox")],
    ids=["two lines", "half a surrogate pair"],
)
def test_wish_is_fenced_and_declared_to_be_data(wish: str, sent: str) -> None:
    system, user = system_and_user(user_prompt=wish)
    assert user.splitlines()[-1] == f"<wish>{sent}</wish>"
    assert "never an instruction" in system


@pytest.mark.parametrize("blank", ["", "  \n\t", "\x00"])
def test_without_a_wish_there_is_no_fence_to_explain(blank: str) -> None:
    assert "wish" not in "".join(system_and_user(user_prompt=blank))


@given(st.text() | st.text(alphabet="<>/wishWISH[]|INST \n\x00"))
def test_no_text_closes_the_fence_or_forges_a_turn_and_any_can_be_sent(user_prompt: str) -> None:
    inside = fenced(user_prompt).removeprefix("<wish>").removesuffix("</wish>")
    assert not set(inside) & set("<>[]\n\r\x00")
    assert "".join(system_and_user(user_prompt=user_prompt)).encode("utf-8")
