"""What tags and the categories beyond the contract's add to a prompt: things, where they are, and what else is sure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from deployments.types import CATEGORIES, LabelScore, PromptRequest, Tag

SURE_TAG_SCORE = 0.5
"""Tags' scores are shares of right ones: from here on a tag is rather right than wrong."""

SURE_FURTHER_SHARE = 0.5
"""A label of a category beyond the contract's is told where it has more than all of the others together."""

THINGS = frozenset({"objects", "animals", "plants", "food", "vehicles", "people", "fantasy"})
PLACES = frozenset({"places"})
STYLES = frozenset({"mediums", "movements"})
"""Groups of tags by what they are in a sentence; those of all others are details."""

MOST_THINGS, MOST_DETAILS = 3, 3
DEEP_THINGS, DEEP_DETAILS = 5, 5
"""How many are told: what is named first an image model paints, and the rest it blends."""

NAMED_BY_THINGS = frozenset({"animals", "architecture", "food", "objects", "technology"})
NAMED_BY_PLACES = frozenset(
    {"architecture", "forest", "indoor", "landscape", "mountains", "nature", "seascape", "urban"}
)
"""Subjects that say no more where a thing, or a place, has its name."""

COUNTED = re.compile(r"^(?:an?|the|some|\d\S*|two|three|several|many)\s|[^sui]s$", re.IGNORECASE)
_WORDS = """people men women children feet teeth hair sheep deer cattle fish seafood food alcohol ale beer brandy
champagne cider coffee juice lemonade milk rum tea tequila vodka water whiskey wine bacon barley basil bread
broccoli butter candy caramel cauliflower caviar celery cheese chocolate coleslaw corn cornbread cream curry dill
dough flour fruit fudge garlic ginger gravy guacamole ham hay honey jam jelly ketchup kimchi lavender lettuce
marmalade marzipan mayonnaise meat mustard oatmeal parsley pasta pastry pepper pesto popcorn pork porridge ramen
rhubarb rice rosemary salt sashimi sauce sauerkraut soup spaghetti spinach sugar sushi syrup thyme toast tofu
vanilla vinegar wheat yogurt grass foliage ivy moss seaweed bamboo snow sand ice fire smoke fog mist rain lightning
jewelry clothing furniture graffiti art paper luggage machinery pottery"""
UNCOUNTED = frozenset(_WORDS.split())
"""Last words of things that are not one of several."""
SOUNDS_LIKE_A_CONSONANT = re.compile(r"(?:uni|use|usu|ute|uk|eu|one\b|once\b)", re.IGNORECASE)
SOUNDS_LIKE_A_VOWEL = re.compile(r"[aeiou]|hour|honest|heir", re.IGNORECASE)


class Named(NamedTuple):
    """What sure tags name, best first."""

    things: tuple[Tag, ...] = ()
    places: tuple[Tag, ...] = ()
    details: tuple[Tag, ...] = ()

    def leaves(self, subject: str) -> bool:
        """Tell whether a subject says what no tag says more exactly."""
        if subject == "people":
            return all(tag.group != "people" for tag in self.things)
        return not ((self.things and subject in NAMED_BY_THINGS) or (self.places and subject in NAMED_BY_PLACES))


def named(request: PromptRequest) -> Named:
    """Part the sure tags by what they are."""
    deep = request.options.deep_thinking
    sure = [tag for tag in request.tags if tag.score >= SURE_TAG_SCORE]
    details = tuple(tag for tag in sure if tag.group not in THINGS | PLACES)
    return Named(
        tuple(tag for tag in sure if tag.group in THINGS)[: DEEP_THINGS if deep else MOST_THINGS],
        tuple(tag for tag in sure if tag.group in PLACES)[:1],
        details[: DEEP_DETAILS if deep else MOST_DETAILS],
    )


def further(request: PromptRequest) -> Iterator[tuple[str, LabelScore]]:
    """Give the sure label of each category beyond the contract's, and what that category is called.

    Not where the wish says it.
    """
    wish = request.options.user_prompt.casefold()
    for category, scores in request.seen.items():
        sure = category not in CATEGORIES and scores and scores[0].score >= SURE_FURTHER_SHARE
        if sure and scores[0].value.casefold() not in wish:
            yield category.replace("_", " ").capitalize(), scores[0]


def with_article(thing: str) -> str:
    """Say one of a thing in English: "an espresso", "a unicycle"; "sunglasses" and "grass" stay what they are."""
    last = thing.casefold().split()[-1]
    if COUNTED.search(thing) or last in UNCOUNTED:
        return thing
    vowel = SOUNDS_LIKE_A_VOWEL.match(thing) and not SOUNDS_LIKE_A_CONSONANT.match(thing)
    return f"{'an' if vowel else 'a'} {thing}"
