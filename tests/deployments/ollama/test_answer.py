"""What of a model's answer is shown and kept: the prompt alone, however the answer comes in pieces."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.ollama.answer import Answer

FOX = "A red fox in the snow, calm and bright, under a low sun."
LOOP = "The ocean is a canvas of endless light. "


def told(pieces: list[str], *, cut: bool = False) -> tuple[str, str, bool]:
    """Give what was shown, the prompt, and whether it was truncated."""
    answer, shown = Answer(), ""
    for piece in pieces:
        text, voided = answer.take(piece)
        shown = text if voided else shown + text
        if answer.finished:
            break
    prompt = answer.end(cut=cut and not answer.finished)
    return shown, prompt.text, prompt.truncated


@pytest.mark.parametrize(
    "said",
    [
        FOX,
        f"\n\n  {FOX}\n",
        f"Here is a prompt for an image generator:\n\n{FOX}",
        f"Here's the prompt: {FOX}",
        f"Sure! Here is your prompt:\n{FOX}",
        f"Certainly. {FOX}",
        f"Prompt: {FOX}",
        f"**Prompt:** {FOX}",
        f"## Image prompt: {FOX}",
        f"Assistant: {FOX}",
        f"```\n{FOX}\n```",
        f"```text\n{FOX}\n```\nThis prompt shows a fox.",
        f'"{FOX}"',
        f"“{FOX}”",
        f'Here is a prompt: "{FOX}"',
        f"{FOX}\n\nThis prompt captures the calm of winter.",
        f"{FOX}\n\n{FOX}",
        f"{FOX} {FOX}",
        FOX.replace("snow, ", "snow,\n"),
        f"<think>The caller wants a fox.</think>\n\n{FOX}",
        f"<THINKING>The caller wants a fox.</THINKING>{FOX}",
        f"The caller wants a fox, so I say one.\n</think>\n{FOX}",
    ],
)
def test_the_prompt_alone_is_kept(said: str) -> None:
    for size in (1, 3, len(said)):
        pieces = [said[at : at + size] for at in range(0, len(said), size)]
        shown, prompt, truncated = told(pieces)
        assert (prompt, truncated) == (FOX, False)
        assert prompt.startswith(shown)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (f"{FOX} Behind it a", FOX),
        ("A red fox in the snow, calm and bright, with a", "A red fox in the snow, calm and bright"),
        ("A red fox that stands before a dark for", "A red fox that stands before a dark"),
        (LOOP * 2 + FOX + " " + LOOP + "And", LOOP + FOX),
        ("A fox runs in winter light, and runs and runs and" + " runs and" * 9, "A fox runs in winter light"),
        (
            "夕暮れの海岸に立つ灯台。静かな雰囲気で、青と橙の色合い。光が差し",
            "夕暮れの海岸に立つ灯台。静かな雰囲気で、青と橙の色合い。",
        ),
        ("<think>It wants a fox and", ""),
    ],
)
def test_a_broken_end_or_a_loop_is_cut_away_and_told(said: str, kept: str) -> None:
    _, prompt, truncated = told(list(said), cut=True)
    assert (prompt, truncated) == (kept, True)


@pytest.mark.parametrize(
    "said",
    [
        "a red fox, snow, watercolor, calm, soft light",
        '"Welcome" reads the sign over a wooden door in the calm evening light.',
        "A tower 3.5 m wide, e.g. of stone, stands by a sea that is <3 of the sailors who know it.",
        "Okay-looking diners in the style of a 1950s postcard, *almost* empty, under neon light.",
        "Here and there a lantern glows in the fog of a narrow street, muted and blue.",
    ],
)
def test_what_only_looks_like_a_fault_is_kept(said: str) -> None:
    assert told(list(said))[1:] == (said, False)


def test_a_loop_ends_the_reading() -> None:
    answer = Answer()
    for _ in range(20):
        answer.take("the light and the sea of ")
    assert answer.finished


@settings(max_examples=1000, deadline=None)
@given(st.data())
def test_no_thought_is_shown_however_the_answer_is_cut(data: st.DataObject) -> None:
    thought = data.draw(st.text(alphabet="SECRET <>/k\n.", min_size=1, max_size=60).filter(lambda t: "S" in t))
    thought = re.sub(r"</?(?:think|thinking|thought)>", "", thought, flags=re.IGNORECASE)
    closed = data.draw(st.booleans())
    said = f"<think>{thought}</think>{FOX}" if closed else f"<think>{thought}"
    cuts = sorted(data.draw(st.sets(st.integers(0, len(said)), max_size=30)))
    pieces = [said[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(said)], strict=True)]
    shown, prompt, _ = told(pieces)
    assert prompt == (FOX if closed else "")
    assert FOX.startswith(shown)


@given(st.text(alphabet="aB .,!?\n\"'*`<think>/:“”の。、#", max_size=200), st.data())
def test_pieces_make_no_difference_and_what_was_shown_stands(said: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(said)), max_size=20)))
    pieces = [said[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(said)], strict=True)]
    shown, prompt, truncated = told(pieces, cut=True)
    assert (prompt, truncated) == told(list(said), cut=True)[1:]
    assert shown.startswith(prompt) or prompt.startswith(shown)
    assert "<think>" not in prompt
