from __future__ import annotations

import re
import timeit
from collections.abc import Mapping
from itertools import starmap
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from deployments.clip.labels import load_labels
from deployments.clip.settings import DEFAULT_LABELS_FILE
from deployments.ollama.colours import colour_name, named_shares
from deployments.ollama.instructions import plain
from deployments.ollama.template import OPPOSITES, SENTENCE_ENDS, compose, shortcomings
from deployments.ollama.wording import WORDING_FILE
from deployments.types import LabelScore, Language, PromptOptions, PromptRequest, Swatch, Tag
from tests.deployments.ollama.samples import mountains

PICTURES: Mapping[str, Any] = yaml.safe_load(Path(__file__).with_name("composed.yaml").read_text(encoding="utf-8"))
LANGUAGES: tuple[Language, ...] = get_args(Language)
WORDS: Mapping[str, Mapping[str, Mapping[str, str]]] = yaml.safe_load(WORDING_FILE.read_text(encoding="utf-8"))
DEFAULT_LABELS = {name: category.labels for name, category, _ in load_labels(DEFAULT_LABELS_FILE).categories()}
SAID_IN = {
    "style": ("style",),
    "mood": ("mood",),
    "composition": ("framing",),
    "color_palette": ("tones",),
    "subjects": ("things", "places", "framing"),
}
"""Category → the sections of the phrases that its labels may be in."""


def request_of(picture: Mapping[str, Any], language: Language) -> PromptRequest:
    return PromptRequest(
        {name: tuple(starmap(LabelScore, scores.items())) for name, scores in picture["scores"].items()},
        tuple(starmap(Swatch, picture["palette"].items())),
        PromptOptions(language=language, **picture.get("options", {})),
        picture.get("analyzer", "clip"),
        tags=tuple(Tag(*tag) for tag in picture.get("tags", ())),
    )


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_told_as_a_person_would_tell_it(name: str, language: Language) -> None:
    assert compose(request_of(PICTURES[name], language)) == PICTURES[name]["prompts"][language]


def test_there_are_words_for_every_default_label_and_every_colour_in_every_language() -> None:
    for category, labels in DEFAULT_LABELS.items():
        for label in labels:
            assert sum(label in WORDS[section] for section in SAID_IN[category]) == 1, f"{category}: {label}"
    levels = range(0, 256, 15)
    colours = {colour_name(f"#{red:02x}{green:02x}{blue:02x}") for red in levels for green in levels for blue in levels}
    assert colours == set(WORDS["colours"])
    assert set(WORDS["places"]) == set(WORDS["in places"])
    assert {label for pair in OPPOSITES for label in pair} <= {
        label for own in DEFAULT_LABELS.values() for label in own
    }
    for names in WORDS.values():
        for name, said in names.items():
            assert tuple(said) == LANGUAGES, name
            assert len({tuple(sorted(re.findall(r"\{\w+\}", text))) for text in said.values()}) == 1, name


@pytest.mark.parametrize(
    ("language", "wish", "start"),
    [
        ("en", "a lone wolf", "a lone wolf. A photorealistic"),
        ("en", "Make it rain!", "Make it rain! A photorealistic"),
        ("en", "two\nlines\x07", "two lines. A photorealistic"),
        ("en", "a bell \x07 rings", "a bell rings. A photorealistic"),
        ("en", "{label} of {image}", "{label} of {image}. A photorealistic"),
        ("en", " \n ", "A photorealistic"),
        ("ja", "狼がいる。", "狼がいる。山々"),
        ("zh", "一只狼", "一只狼。一幅"),
        ("ar", "أين الذئب؟", "أين الذئب؟ صورة"),
    ],
)
def test_wish_comes_first_as_a_sentence_of_its_own(language: Language, wish: str, start: str) -> None:
    assert compose(mountains(user_prompt=wish, language=language)).startswith(start)


def test_a_subject_or_a_style_that_is_a_guess_is_not_named_and_the_caller_is_asked() -> None:
    guess = dict(mountains().scores) | {
        "style": (LabelScore("sketch", 0.2), LabelScore("modern", 0.19)),
        "subjects": (LabelScore("forest", 0.2), LabelScore("indoor", 0.19)),
    }
    request = mountains(guess)
    assert compose(request).startswith("An image seen in wide angle, with a strong sense of depth. ")
    assert "user_prompt" in shortcomings(request)[0]
    assert shortcomings(mountains(guess, user_prompt="a lone wolf")) == ()


def test_what_the_stand_in_can_only_guess_is_not_claimed() -> None:
    request = mountains(analyzer="pixels")
    assert compose(request) == (
        "An image seen in wide angle, with a strong sense of depth. The mood is calm and peaceful. "
        "The palette is mainly dark brown and blue, in earthy tones."
    )
    assert "user_prompt" in shortcomings(request)[0]


@pytest.mark.parametrize(("share", "start"), [(0.7, "An image of mountains, "), (0.5, "An image seen ")])
def test_a_subject_of_the_objects_analyser_is_claimed_where_it_was_seen(share: float, start: str) -> None:
    scores = {**mountains().scores, "subjects": (LabelScore("mountains", share), LabelScore("forest", 0.3))}
    prompt = compose(mountains(scores, analyzer="objects"))
    assert prompt.startswith(start)
    assert not re.search("forest|photo", prompt)


@pytest.mark.parametrize("category", ["mood", "composition", "color_palette"])
def test_a_look_that_is_a_guess_is_not_claimed(category: str) -> None:
    first, second, third = DEFAULT_LABELS[category][:3]
    guess = (LabelScore(first, 0.19), LabelScore(second, 0.18), LabelScore(third, 0.17))
    assert compose(mountains({category: guess})) == "The palette is mainly dark brown and blue."


def test_where_nothing_is_sure_there_is_still_a_prompt() -> None:
    assert compose(PromptRequest({})) == "An image."


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_language_is_a_shortcoming(language: Language) -> None:
    assert shortcomings(mountains(language=language)) == ()


OWN_LABELS = st.sampled_from(["dragons", " Dutch  angle", "sci-fi,", "100 % {wool}", "a\nb.", " ", "、"])
scores = st.lists(st.floats(0, 1), max_size=3).map(lambda shares: sorted(shares, reverse=True))


@st.composite
def analyses(draw: st.DrawFn) -> dict[str, tuple[LabelScore, ...]]:
    analysis = {}
    for category, labels in DEFAULT_LABELS.items():
        shares = draw(scores)
        words = draw(
            st.lists(st.sampled_from(labels) | OWN_LABELS, min_size=len(shares), max_size=len(shares), unique=True)
        )
        analysis[category] = tuple(map(LabelScore, words, shares))
    return analysis


swatches = st.lists(st.builds(Swatch, st.integers(0, 0xFFFFFF).map("#{:06x}".format), st.floats(0, 1)), max_size=6).map(
    tuple
)
SCRIPTS = {"ja": "\u3040-\u30ff\u4e00-\u9fff", "zh": "\u4e00-\u9fff", "ar": "\u0600-\u06ff"}


@given(analyses(), swatches, st.sampled_from(LANGUAGES), st.text(), st.booleans())
def test_any_picture_is_told_in_whole_sentences_of_the_language_and_always_the_same(
    analysis: dict[str, tuple[LabelScore, ...]],
    palette: tuple[Swatch, ...],
    language: Language,
    wish: str,
    deep: bool,
) -> None:
    options = PromptOptions(wish, deep, language)
    prompt = compose(PromptRequest(analysis, palette, options))
    told = plain(wish)
    assert prompt.startswith(told)
    rest = prompt.removeprefix(told)
    assert len(prompt.splitlines()) == 1
    assert prompt.encode("utf-8")
    assert prompt == prompt.strip()
    assert not re.search(r"  |[,.،，、。][ ]?[,.،，、。]|[ ][,.،，、。]|[{](?!wool)|\w:", rest), rest
    assert prompt.endswith(SENTENCE_ENDS)
    assert rest == "" or rest.endswith("。" if language in {"ja", "zh"} else ".")
    if not told and language in SCRIPTS:
        assert re.search(f"[{SCRIPTS[language]}]", rest)
    if language != "ar":
        assert "،" not in rest
    elif told.endswith(SENTENCE_ENDS) or not told:
        assert "," not in rest
    assert compose(PromptRequest(analysis, palette, options)) == prompt


@pytest.mark.parametrize("pair", sorted(map(sorted, OPPOSITES)), ids=" or ".join)
def test_of_two_opposites_the_likelier_is_told(pair: list[str]) -> None:
    (category,) = [name for name, labels in DEFAULT_LABELS.items() if set(pair) <= set(labels)]
    for best, other in (pair, pair[::-1]):
        likely = LabelScore(best, 0.4)
        both, alone = ({category: seen} for seen in ((likely, LabelScore(other, 0.35)), (likely,)))
        assert compose(PromptRequest(both)) == compose(PromptRequest(alone)) != "An image."


@pytest.mark.parametrize(
    ("subjects", "prompt"),
    [
        (["food", "people"], "An image of food and people."),
        (["food", "urban", "indoor"], "An image of food in a city."),
        (["space", "technology"], "An image of technology in outer space."),
        (["nature", "forest", "landscape"], "An image of a forest."),
        (["mountains", "seascape"], "An image of mountains and the sea."),
        (["food", "still life"], "An image of food, arranged as a still life."),
        (["portrait", "indoor"], "An image framed as a portrait."),
        (["indoor", "portrait"], "An image of an interior."),
        (["dragons", "fantasy"], "An image of dragons in a fantasy world."),
    ],
    ids=str,
)
def test_subjects_are_told_together(subjects: list[str], prompt: str) -> None:
    shares = (0.4, 0.3, 0.25)
    seen = tuple(map(LabelScore, subjects, shares))
    assert compose(PromptRequest({"subjects": seen})) == prompt


def test_composing_takes_no_time() -> None:
    request = request_of(PICTURES["a family at home, in deep mode"], "ar")
    took_s = min(timeit.repeat(lambda: compose(request), number=10, repeat=5)) / 10
    assert took_s < 0.002


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
