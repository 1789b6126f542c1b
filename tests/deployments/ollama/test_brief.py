"""What a request comes to for each of the targets that come with the service, without a model and with any."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.ollama.answer import UNIT
from deployments.ollama.brief import Brief, brief_of
from deployments.ollama.budget import clip_tokens
from deployments.ollama.fitting import fit
from deployments.ollama.settings import DEFAULT_TARGETS_FILE
from deployments.ollama.targets import load_targets, parse_targets
from deployments.types import (
    CATEGORIES,
    AnalyzerName,
    LabelScore,
    Language,
    Length,
    PromptComplete,
    PromptOptions,
    PromptRequest,
    Swatch,
    Tag,
)
from tests.deployments.ollama.samples import mountains

TARGETS = load_targets(DEFAULT_TARGETS_FILE).root
BUDGETED = [name for name in TARGETS if name != "prose"]


def briefed(target: str, **options: Any) -> Brief:
    request = replace(mountains(**options), aspect_ratio="3:2")
    return brief_of(request, target, TARGETS[target])


def by_rule(target: str, **options: Any) -> PromptComplete:
    made = briefed(target, **options)
    return made.complete(made.composed(), "template")


LABELS = ["photorealistic", "anime", "landscape", "people", "dark", "warm tones", "(odd)", "--ar", "mountains"]
labels = st.lists(st.builds(LabelScore, st.sampled_from(LABELS), st.floats(0, 1)), max_size=3).map(tuple)
swatches = st.lists(
    st.builds(Swatch, st.sampled_from(["#4a3220", "#4682b4", "#ffffff", "#000000"]), st.floats(0, 1)), max_size=4
).map(tuple)
WISHED = [
    "fox",
    "without people",
    "no text,",
    "(soft)",
    "[x]",
    "\\",
    "--ar 9:16",
    ",",
    ".",
    "。",
    "狼",
    "dark brown",
    "\n",
]
texts = st.text() | st.lists(st.sampled_from(WISHED)).map(" ".join)
options = st.builds(
    PromptOptions,
    user_prompt=texts,
    deep_thinking=st.booleans(),
    language=st.sampled_from(get_args(Language)),
    length=st.sampled_from([None, *get_args(Length)]),
    weights=st.booleans(),
)
tags = st.lists(
    st.builds(
        Tag, st.sampled_from(["fox", "(odd) --ar", "bokeh"]), st.sampled_from(["objects", "camera"]), st.floats(0, 1)
    ),
    max_size=3,
).map(tuple)
requests = st.builds(
    PromptRequest,
    st.dictionaries(st.sampled_from([*CATEGORIES, "lighting"]), labels),
    swatches,
    options,
    st.sampled_from(get_args(AnalyzerName)),
    aspect_ratio=st.sampled_from(["", "3:2"]),
    tags=tags,
)


@pytest.mark.parametrize("name", BUDGETED)
@given(requests, texts, st.booleans())
def test_for_any_picture_wish_and_answer_the_prompt_is_what_its_generator_takes(
    name: str, request_: PromptRequest, answer: str, cut: bool
) -> None:
    target = TARGETS[name]
    made = brief_of(request_, name, target)
    assert made.form is not None
    assert target.budget is not None
    limit = target.budget.limit(request_.options.wanted_length)
    for prompt in (made.composed().text, fit(made.form, answer, cut=cut).text):
        complete = made.complete(made.composed(), "template")
        assert complete.budget is not None
        assert (complete.budget.limit, complete.budget.unit) == (limit, target.budget.unit)
        assert made.form.count(prompt) <= limit
        assert len(prompt.splitlines()) <= 1
        assert "  " not in prompt
        assert not re.search(r",\s*,|\s,|\{(?:palette|light|unwanted|aspect_ratio|source|rating|count)\}", prompt)
        assert prompt.startswith(", ".join(made.form.before))
        prompt.encode()
        body = prompt.removeprefix(", ".join(made.form.before))
        if target.parameters:
            assert not re.search(r"--\w*", re.sub(r"--(ar 3:2|no [^-]*)\Z|--ar 3:2(?= --no)", "", body))
        if target.weighs:
            unweighed = re.sub(r"(?<!\\)\((?:\\.|[^()\[\]\\])+:1\.[123]\)", "", body)
            assert not re.search(r"(?<!\\)[()\[\]]", unweighed)
    if made.negative is None:
        assert target.negative is None
    else:
        assert clip_tokens(made.negative) <= 75
        assert not re.search(r",\s*,|\s,|  ", made.negative)


@pytest.mark.parametrize("name", BUDGETED)
def test_the_fixed_parts_and_the_negative_prompt_are_the_same_whoever_writes(name: str) -> None:
    made = briefed(name)
    assert made.form is not None
    with_model, without = fit(made.form, "A fox, in the snow. It waits."), made.composed()
    for prompt in (with_model.text, without.text):
        assert all(part in prompt for part in made.form.before)
        assert all(tail.text in prompt for tail in made.form.after if "{" not in tail.text)


def test_prose_is_what_it_was_and_takes_nothing() -> None:
    request = mountains(user_prompt="without people", deep_thinking=True)
    made = brief_of(request, "prose", TARGETS["prose"])
    assert made.request is request
    assert (made.ask, made.num_predict, made.form, made.negative, made.warnings) == ("", None, None, None, ())


@pytest.mark.parametrize(
    ("target", "wish", "negative", "prompt"),
    [
        ("sdxl", "a wolf without people", "people, low quality, blurry, ", "a wolf, mountains"),
        ("sdxl", "a neon sign with text", "low quality, blurry, deformed, watermark, ", "a neon sign with text, "),
        ("flux", "a wolf without people", None, "A wolf, deserted surroundings"),
        ("midjourney", "a wolf without people", None, "A wolf"),
    ],
)
def test_what_is_not_wanted_stands_where_it_is_not_painted(
    target: str, wish: str, negative: str | None, prompt: str
) -> None:
    made = by_rule(target, user_prompt=wish)
    assert made.prompt.startswith(prompt)
    assert "people" not in made.prompt.replace("--no people", "")
    assert (made.negative or "").startswith(negative or "")
    assert made.negative is None or negative is not None


def test_what_is_not_wanted_is_no_label_either() -> None:
    assert "mountains" not in by_rule("tags", user_prompt="no mountains").prompt
    assert by_rule("tags", user_prompt="no mountains").warnings == ()


def test_of_what_has_no_place_and_no_opposite_the_caller_is_told() -> None:
    (warning,) = by_rule("flux", user_prompt="a wolf without unicorns").warnings
    assert warning == "FLUX.1 has no negative prompt for unicorns: say what is there instead."


@pytest.mark.parametrize(
    ("target", "end"),
    [
        ("midjourney", " --ar 3:2 --no people, cars"),
        ("flux", " The light is soft."),
    ],
)
def test_what_is_said_by_rule_stands_at_the_end(target: str, end: str) -> None:
    assert by_rule(target, user_prompt="no people, no cars").prompt.endswith(end)


@pytest.mark.parametrize("length", get_args(Length))
def test_the_light_is_always_named_without_a_model_and_with_one_that_names_but_a_light_color(length: Length) -> None:
    assert by_rule("flux", length=length).prompt.endswith(" The light is soft.")
    assert "The light is" not in by_rule("flux", length=length, user_prompt="a wolf by moonlight").prompt
    form = briefed("flux", length=length).form
    assert form is not None
    assert fit(form, "A light gray wall, light-blue paint.").text.endswith(" The light is soft.")
    assert fit(form, "A gray wall in soft light.").text == "A gray wall in soft light."


def test_flux2_ties_codes_to_what_they_colour() -> None:
    assert "dark brown #4a3220 and blue #4682b4" in by_rule("flux2").prompt
    form = briefed("flux2").form
    assert form is not None
    told = fit(form, "A sunlit hill under a blue sky.").text
    assert told == "A sunlit hill under a blue #4682b4 sky. The colors are dark brown #4a3220."


@pytest.mark.parametrize(("ratio", "size"), [("3:2", "1536x1024"), ("9:16", "1024x1536"), ("1:1", "1024x1024")])
def test_the_size_is_the_nearest_that_the_generator_makes(ratio: str, size: str) -> None:
    request = replace(mountains(), aspect_ratio=ratio)
    assert brief_of(request, "gpt_image", TARGETS["gpt_image"]).size == size


def test_weights_are_put_where_they_mean_something_and_else_are_told_of() -> None:
    weighed = by_rule("sdxl", weights=True)
    assert weighed.prompt.startswith("(mountains:1.1), (landscape:1.1), (photorealistic:1.2), ")
    assert "(wide angle:1.1), (depth:1.1), " in weighed.prompt
    assert weighed.warnings == ()
    close = {"composition": (LabelScore("close-up", 0.9),)}
    made = brief_of(mountains(close, weights=True), "sdxl", TARGETS["sdxl"])
    assert made.composed().text.startswith("(close-up:1.3), ")
    assert by_rule("flux", weights=True).warnings == ("FLUX.1 takes no weights: none are in the prompt.",)


@pytest.mark.parametrize(
    ("scores", "begins"),
    [
        ({"style": (LabelScore("anime", 0.6),)}, "score_9, score_8_up, score_7_up, source_anime, rating_safe, anime"),
        ({"style": (LabelScore("anime", 0.3),)}, "score_9, score_8_up, score_7_up, rating_safe, anime"),
    ],
)
def test_a_choice_is_made_by_what_is_sure(scores: Any, begins: str) -> None:
    request = mountains(scores)
    made = brief_of(request, "pony", TARGETS["pony"])
    assert made.composed().text.startswith(begins)


def test_a_fixed_part_before_the_words_yields_to_the_wish() -> None:
    assert "no humans" in by_rule("illustrious").prompt or "landscape" not in by_rule("illustrious").prompt
    request = mountains({"subjects": (LabelScore("landscape", 0.9),)})
    for wish, told in (("", True), ("a knight on a hill", False)):
        asked = replace(request, options=PromptOptions(wish))
        assert ("no humans" in brief_of(asked, "illustrious", TARGETS["illustrious"]).composed().text) is told


def test_another_language_than_the_generators_is_told_of_and_not_refused() -> None:
    made = briefed("sdxl", language="ja")
    assert made.request.options.language == "en"
    assert made.warnings == ("SDXL is told in English: the prompt is in English.",)
    assert briefed("qwen_image", language="zh").warnings == ()


@pytest.mark.parametrize("length", ["short", None, "long"])
def test_a_model_is_asked_for_what_fits(length: Length | None) -> None:
    made = briefed("flux", length=length)
    assert made.form is not None
    room = made.form.limit - len(UNIT.findall("The light is soft."))
    assert f"at most {room} words" in made.ask
    assert "at most 120 characters" in briefed("z_image", language="zh").ask
    assert made.num_predict == int(room * 2.5)


def test_colours_that_the_words_name_stand_after_them_or_the_file_is_refused() -> None:
    entry = {"title": "X", "help": "X.", "shape": "phrases", "before": ["{palette}"]}
    with pytest.raises(Exception, match="stands after the words"):
        parse_targets(
            {
                "prose": {"title": "P", "help": "P.", "shape": "prose"},
                "ours": {**entry, "budget": {"unit": "words", "short": 9, "medium": 9, "long": 9}},
            },
            "f",
        )
