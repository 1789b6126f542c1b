from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.ollama.colours import colour_name, named_shares
from deployments.ollama.template import compose, shortcomings
from deployments.types import CATEGORIES, LabelScore, PromptOptions, PromptRequest, Swatch
from tests.deployments.ollama.samples import mountains


def test_the_standard_prompt_names_what_is_likely_and_the_deep_one_everything() -> None:
    assert compose(mountains()) == (
        "Mountains and landscape, in photorealistic style, calm and peaceful in mood. "
        "Composition: wide angle, depth. Color palette: earth tones; mainly dark brown and blue."
    )
    assert compose(mountains(deep_thinking=True)) == (
        "Mountains, landscape and forest, in photorealistic, modern and vintage style, "
        "calm, peaceful and epic in mood. Composition: wide angle, depth, minimal. "
        "Color palette: earth tones, muted; mainly dark brown (40%) and blue (30%). "
        "Rendered in rich detail, with carefully observed light, texture and depth."
    )


@pytest.mark.parametrize(
    ("wish", "start"),
    [
        ("a lone wolf", "a lone wolf. Mountains and"),
        ("Make it rain!", "Make it rain! Mountains and"),
        ("狼がいる。", "狼がいる。 Mountains and"),
        ("two\nlines\x07", "two lines. Mountains and"),
        (" \n ", "Mountains and"),
    ],
)
def test_wish_comes_first_as_a_sentence_of_its_own(wish: str, start: str) -> None:
    assert compose(mountains(user_prompt=wish)).startswith(start)


def test_a_subject_that_is_a_guess_is_not_named_and_the_caller_is_asked() -> None:
    guess = dict(mountains().scores) | {"subjects": (LabelScore("forest", 0.2), LabelScore("indoor", 0.19))}
    request = mountains(guess)
    assert compose(request).startswith("A scene, in photorealistic style")
    assert "forest" not in compose(request)
    assert "user_prompt" in shortcomings(request)[0]
    assert shortcomings(mountains(guess, user_prompt="a lone wolf")) == ()


def test_what_the_stand_in_can_only_guess_is_not_claimed() -> None:
    request = mountains(analyzer="pixels")
    assert compose(request) == (
        "A scene, calm and peaceful in mood. "
        "Composition: wide angle, depth. Color palette: earth tones; mainly dark brown and blue."
    )
    assert "user_prompt" in shortcomings(request)[0]


def test_other_languages_are_owned_up_to() -> None:
    assert shortcomings(mountains()) == ()
    assert "Spanish" in shortcomings(mountains(language="es"))[0]


labels = st.lists(st.builds(LabelScore, st.text("abc ", min_size=1), st.floats(0, 1)), max_size=3).map(tuple)
swatches = st.lists(st.builds(Swatch, st.integers(0, 0xFFFFFF).map("#{:06x}".format), st.floats(0, 1)), max_size=6).map(
    tuple
)


@given(st.dictionaries(st.sampled_from(CATEGORIES), labels), swatches, st.text(), st.booleans())
def test_any_picture_gives_one_sendable_line_and_always_the_same(
    analysis: dict[str, tuple[LabelScore, ...]], palette: tuple[Swatch, ...], wish: str, deep: bool
) -> None:
    request = PromptRequest(analysis, palette, PromptOptions(wish, deep))
    prompt = compose(request)
    assert prompt.strip()
    assert len(prompt.splitlines()) == 1
    assert prompt.encode("utf-8")
    assert compose(request) == prompt


NAMED = """
#000000 black,  #ffffff white, #808080 gray,  #303134 dark gray,  #ff0000 red,  #ff0010 red,        #ff8c00 orange
#8b4513 brown,  #96704a brown, #d2b48c beige, #4a3220 dark brown, #ffd700 yellow, #0b3d0b dark green, #2e8b57 green
#20b2aa teal,   #4682b4 blue,  #7b3fbf purple, #b0d8f0 light blue, #ff69b4 pink
"""


@pytest.mark.parametrize("named", NAMED.strip().replace("\n", ",").split(","))
def test_colours_go_by_the_names_people_use(named: str) -> None:
    hex_code, name = named.strip().split(" ", 1)
    assert colour_name(hex_code) == name.strip()


def test_colours_of_one_name_are_one_colour() -> None:
    palette = [Swatch("#ff0000", 0.2), Swatch("#0000ff", 0.3), Swatch("#ee0000", 0.2)]
    assert named_shares(palette) == {"red": 0.4, "blue": 0.3}
