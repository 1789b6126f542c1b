"""What tags and the categories beyond the contract's add to prompts, and where they say nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest

from deployments.ollama.brief import brief_of
from deployments.ollama.instructions import build_messages
from deployments.ollama.phrases import phrases, tags, weights
from deployments.ollama.settings import DEFAULT_TARGETS_FILE
from deployments.ollama.tagged import SURE_FURTHER_SHARE, SURE_TAG_SCORE, with_article
from deployments.ollama.targets import load_targets
from deployments.ollama.template import compose, shortcomings
from deployments.types import LabelScore, Language, PromptOptions, PromptRequest, Tag

TARGETS = load_targets(DEFAULT_TARGETS_FILE).root
ESPRESSO = Tag("espresso", "food", 0.9)
SAUCER = Tag("saucer", "objects", 0.8)
CAFE = Tag("coffee shop", "places", 0.7)
CASTLE = Tag("castle", "places", 0.7)
PORCELAIN = Tag("porcelain", "materials", 0.6)


def coffee(*tags_: Tag, further: dict[str, Any] | None = None, **options: Any) -> PromptRequest:
    scores = {
        "style": {"photorealistic": 0.8},
        "mood": {"intimate": 0.4},
        "composition": {"close-up": 0.7},
        "color_palette": {"warm tones": 0.5},
        "subjects": {"food": 0.5, "indoor": 0.3},
        **(further or {}),
    }
    return PromptRequest(
        {name: tuple(LabelScore(label, share) for label, share in of.items()) for name, of in scores.items()},
        options=PromptOptions(**options),
        tags=tags_,
    )


def view(request: PromptRequest) -> str:
    """Give the first sentence that is composed."""
    return compose(request).split(". ")[0]


def note(request: PromptRequest, name: str) -> list[str]:
    told: str = build_messages(request)[-1]["content"]
    return [line for line in told.splitlines() if line.startswith(f"{name}:")]


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ((), "A photorealistic image of food indoors, seen in close-up"),
        ((ESPRESSO,), "A photorealistic image of an espresso indoors, seen in close-up"),
        ((ESPRESSO, SAUCER), "A photorealistic image of an espresso and a saucer indoors, seen in close-up"),
        ((ESPRESSO, CAFE), "A photorealistic image of an espresso in a coffee shop setting, seen in close-up"),
        ((replace(ESPRESSO, score=0.49),), "A photorealistic image of food indoors, seen in close-up"),
        ((PORCELAIN,), "A photorealistic image of food indoors, seen in close-up"),
    ],
    ids=["no tag", "a thing", "things", "a place", "unsure", "no thing"],
)
def test_the_composer_names_the_subject_by_its_sure_tags(named: tuple[Tag, ...], expected: str) -> None:
    assert view(coffee(*named)) == expected


@pytest.mark.parametrize(
    ("tag", "said"), [(Tag("barista", "people", 0.9), "a barista"), (ESPRESSO, "an espresso and people")]
)
def test_people_are_said_where_no_tag_says_who_they_are(tag: Tag, said: str) -> None:
    assert (
        view(coffee(tag, further={"subjects": {"people": 0.7}}))
        == f"A photorealistic image of {said}, seen in close-up"
    )


def test_a_place_alone_is_the_subject_and_what_is_named_is_not_uncertain() -> None:
    unsure = {"subjects": {"architecture": 0.1}}
    assert view(coffee(CASTLE, further=unsure)) == "A photorealistic image of a castle, seen in close-up"
    assert shortcomings(coffee(CASTLE, further=unsure)) == ()
    assert shortcomings(coffee(PORCELAIN, further=unsure)) != ()


@pytest.mark.parametrize("language", [language for language in get_args(Language) if language != "en"])
def test_tags_are_english_and_say_nothing_in_the_composer_s_other_languages(language: Language) -> None:
    named = (ESPRESSO, CAFE, PORCELAIN)
    assert compose(coffee(*named, language=language)) == compose(coffee(language=language))
    assert note(coffee(*named, language=language), "Subjects") == ["Subjects: espresso, coffee shop"]


def test_a_model_is_told_things_as_subjects_and_the_rest_as_details() -> None:
    request = coffee(ESPRESSO, SAUCER, PORCELAIN, further={"subjects": {"food": 0.6, "still life": 0.3}})
    assert note(request, "Subjects") == ["Subjects: espresso, saucer, still life"]
    assert note(request, "Details") == ["Details: porcelain"]
    assert note(coffee(), "Details") == []
    seen: str = build_messages(request, b"jpeg")[-1]["content"]
    assert "Subjects: espresso (90%), saucer (80%), still life (30%)" in seen


def test_generators_of_phrases_are_told_the_tags_first_and_not_what_they_say_better() -> None:
    request = coffee(ESPRESSO, PORCELAIN, further={"season": {"winter": 0.6}})
    assert list(phrases(request)) == [
        *("espresso", "indoor", "photorealistic", "intimate", "close-up", "winter", "porcelain", "warm tones")
    ]
    assert tags(request)[:3] == ["espresso", "photorealistic", "close-up"]
    assert {"winter", "porcelain"} < set(tags(request))
    assert "food" not in tags(request)
    assert weights(request)["espresso"] == pytest.approx(1.27)


@pytest.mark.parametrize("language", get_args(Language))
def test_a_category_beyond_the_contract_s_says_its_sure_label_in_every_language(language: Language) -> None:
    said = {"time_of_day": {"golden hour": SURE_FURTHER_SHARE}}
    unsure = {"time_of_day": {"golden hour": SURE_FURTHER_SHARE - 0.01}, "era": {}}
    plain, told = compose(coffee(language=language)), compose(coffee(further=said, language=language))
    assert told.startswith(plain)
    assert "Time of day" in told
    assert "golden hour" in told
    assert compose(coffee(further=unsure, language=language)) == plain
    assert note(coffee(further=said, language=language), "Time of day") == ["Time of day: golden hour"]
    assert note(coffee(further=unsure, language=language), "Time of day") == []


def test_what_the_wish_says_no_category_repeats() -> None:
    wished = coffee(further={"lighting": {"golden hour": 0.9}}, user_prompt="at the Golden Hour")
    assert "Lighting" not in compose(wished)
    assert note(wished, "Lighting") == []


@pytest.mark.parametrize(
    ("tag", "wish", "told"),
    [
        (Tag("Egyptian cat", "animals", 0.9), "", True),
        (Tag("Egyptian cat", "animals", 0.9), "a sofa without cats", False),
        (Tag("marble", "materials", 0.9), "on a marble table", False),
        (Tag("close-up", "camera", 0.9), "", False),
        (Tag("wide angle", "camera", 0.9), "", False),
        (Tag("oil painting", "mediums", 0.9), "", False),
        (Tag("bokeh", "camera", SURE_TAG_SCORE), "", True),
        (Tag("bokeh", "camera", SURE_TAG_SCORE - 0.01), "", False),
    ],
    ids=["new", "unwanted", "wished", "a label", "against a label", "another style", "sure", "unsure"],
)
@pytest.mark.parametrize("target", ["prose", "sdxl"])
def test_no_tag_repeats_or_contradicts_what_else_is_told(target: str, tag: Tag, wish: str, told: bool) -> None:
    made = brief_of(coffee(tag, user_prompt=wish, length="long"), target, TARGETS[target])
    without = brief_of(coffee(user_prompt=wish, length="long"), target, TARGETS[target])
    assert (made.composed() == without.composed()) is not told
    assert (build_messages(made.request) == build_messages(without.request)) is not told


@pytest.mark.parametrize("target", list(TARGETS))
def test_what_is_to_be_left_out_is_told_to_nobody_but_to_who_sees_it(target: str) -> None:
    lid = Tag("saucer lid", "objects", 0.9)
    seen = coffee(ESPRESSO, SAUCER, lid, without=("saucers", "pen and ink drawing"))
    made = brief_of(seen, target, TARGETS[target])
    negative = made.negative or ""
    painted = made.composed().text.replace("--no saucers", "")
    assert "saucer" not in painted
    assert "pen and ink" not in painted.replace(", pen and ink drawing", "")
    assert "saucer" not in build_messages(made.request)[-1]["content"]
    assert "Leave out: saucers, pen and ink drawing" in build_messages(made.request, b"jpeg")[-1]["content"]
    assert ("saucers, pen and ink drawing" in negative) is (made.negative is not None)


def test_what_is_left_out_is_no_parameter() -> None:
    made = brief_of(coffee(ESPRESSO, without=("cup --v 4",)), "midjourney", TARGETS["midjourney"])
    assert "--no cup v 4" in made.composed().text


def test_what_is_told_is_not_avoided_in_the_negative_prompt() -> None:
    painted = brief_of(coffee(Tag("painting", "objects", 0.9)), "sdxl", TARGETS["sdxl"])
    assert painted.negative is not None
    assert "drawing" in painted.negative
    assert "painting" not in painted.negative


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        ("espresso", "an espresso"),
        ("red fox", "a red fox"),
        ("hourglass", "an hourglass"),
        ("unicycle", "a unicycle"),
        ("umbrella", "an umbrella"),
        ("bus", "a bus"),
        ("glass", "a glass"),
        ("sunglasses", "sunglasses"),
        ("wet grass", "wet grass"),
        ("bare feet", "bare feet"),
        ("a cup of tea", "a cup of tea"),
        ("two dogs", "two dogs"),
        ("ibis", "an ibis"),
    ],
)
def test_a_thing_has_the_article_that_it_takes(thing: str, said: str) -> None:
    assert with_article(thing) == said
