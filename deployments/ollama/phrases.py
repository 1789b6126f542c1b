"""What is seen in a picture, as phrases: for generators that want no sentences, and where no model writes them."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Mapping

from deployments.ollama.colours import named_shares
from deployments.ollama.instructions import LEAST_SHARE
from deployments.ollama.tagged import further, named
from deployments.ollama.template import RUNNER_UP_SHARE, SURE_SUBJECT_SHARE
from deployments.types import CATEGORIES, LabelScore, PromptRequest, Tag

SURE_SHARE = 0.4
"""A best label with so much of its category is taken for granted: a wrong word in a fixed part, or in a negative
prompt, does more harm than none. An estimate."""

ORDER = ("subjects", "style", "mood", "composition", "color_palette")
"""The most important first: what does not fit is left out from the end."""

NAMED_COLOURS, JOINED_COLOURS = 3, 2
"""How many colours get codes, and how many are one phrase, which has no comma in it."""

MOST_WEIGHT_MORE = 0.3
"""A label that is certain weighs 1.3; above, generators burn the picture."""

LIGHT: Mapping[str, str] = {
    "warm tones": "warm",
    "cool tones": "cool",
    "neon": "neon",
    "dark": "dim",
    "bright": "bright",
    "dramatic": "dramatic",
    "high contrast": "hard",
    "low contrast": "soft",
    "muted": "soft",
    "pastel": "soft",
    "calm": "soft",
    "peaceful": "soft",
}
"""What a label tells of the light."""

DIM_BELOW, BRIGHT_ABOVE = 0.25, 0.7
"""Bounds on the palette's mean HSL lightness, 0 to 1."""


def sure_labels(request: PromptRequest) -> list[str]:
    """Give the best label of each category that has one which is sure."""
    firsts = [scores[0] for category in CATEGORIES if (scores := request.seen.get(category))]
    return [label.value for label in firsts if label.score >= SURE_SHARE]


def phrases(request: PromptRequest) -> Iterator[str]:
    """Give what is likely, the most important first, and the measured colours."""
    tagged = named(request)
    yield from (tag.value for tag in (*tagged.things, *tagged.places))
    for category in ORDER:
        if category == "color_palette":
            yield from (seen.value for seen in more(request))
        scores = request.seen.get(category, ())
        if not scores or (category == "subjects" and scores[0].score < SURE_SUBJECT_SHARE):
            continue
        least = LEAST_SHARE if request.options.wanted_length == "long" else RUNNER_UP_SHARE * scores[0].score
        left = [label for label in scores if category != "subjects" or tagged.leaves(label.value)]
        yield from (label.value for label in left if label.score >= least)
    if names := list(named_shares(request.palette))[:JOINED_COLOURS]:
        yield f"{listed(names)} colors"


def more(request: PromptRequest) -> list[LabelScore | Tag]:
    """Give what is sure beside the contract's categories and what the picture is of."""
    return [*(label for _, label in further(request)), *named(request).details]


def tags(request: PromptRequest) -> list[str]:
    """Give all labels that are likely, and what has sure tags, best first."""
    tagged = named(request)
    seen: list[LabelScore | Tag] = [label for label in _labels(request) if label.score >= LEAST_SHARE]
    seen += [*tagged.things, *tagged.places, *more(request)]
    return list(dict.fromkeys(one.value for one in sorted(seen, key=lambda one: -one.score)))


def weights(request: PromptRequest) -> dict[str, float]:
    """Give the weight of a label or tag, from 1.0 for the least likely to 1.3."""
    tagged = named(request)
    seen = [*tagged.things, *tagged.places, *_labels(request), *more(request)]
    return {one.value.casefold(): 1 + MOST_WEIGHT_MORE * min(one.score, 1) for one in seen}


def light(request: PromptRequest) -> str:
    """Say what the light is like, by what is sure or else by how bright the picture is."""
    words = list(dict.fromkeys(LIGHT[label] for label in sure_labels(request) if label in LIGHT))[:2]
    return listed(words) if words else _brightness(request)


def listed(words: list[str]) -> str:
    """Join words as a sentence does."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _labels(request: PromptRequest) -> list[LabelScore]:
    """Give the labels of the contract's categories, but those that tags say more exactly."""
    tagged = named(request)
    return [
        label
        for category in CATEGORIES
        for label in request.seen.get(category, ())
        if category != "subjects" or tagged.leaves(label.value)
    ]


def _brightness(request: PromptRequest) -> str:
    covered = sum(swatch.share for swatch in request.palette)
    if not covered:
        return "soft"
    lightness = 0.0
    for swatch in request.palette:
        red, green, blue = bytes.fromhex(swatch.hex.removeprefix("#"))
        lightness += colorsys.rgb_to_hls(red / 255, green / 255, blue / 255)[1] * swatch.share / covered
    return "dim" if lightness < DIM_BELOW else "bright" if lightness > BRIGHT_ABOVE else "soft and even"
