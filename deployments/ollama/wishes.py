"""A wish in two: what is wanted, and what is not.

An image model paints the people of "without people". Where a generator has a place for what is unwanted it stands
there, and else what is there in its place is said: by these rules and in no answer of a model, so that it is constant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from deployments.ollama.instructions import plain
from deployments.types import Language

IN_THEIR_PLACE: Mapping[str, str] = {
    "people persons person humans human crowd crowds anyone men women figures tourists": "deserted surroundings",
    "text texts words letters lettering writing captions watermark watermarks logo logos": "clean unmarked surfaces",
    "clouds cloud": "a clear sky",
    "shadow shadows": "even flat light",
    "blur bokeh": "sharp focus throughout",
    "background": "a plain backdrop",
    "color colors colour colours": "black and white",
    "trees plants vegetation": "open bare ground",
    "buildings houses architecture": "untouched nature",
    "cars traffic vehicles": "empty roads",
    "noise grain": "a clean smooth image",
    "snow": "bare ground",
    "rain": "dry weather",
}
"""Words for what is unwanted → what is there then."""

POSITIVE = {word: instead for words, instead in IN_THEIR_PLACE.items() for word in words.split()}

NO = (
    rf"(?:^|(?<=[,;.!?]\s)|(?<=\band\s)|(?<=\bbut\s)|\b(?=no\s+(?:{'|'.join(POSITIVE)})\b))"
    r"no(?!\s+(?:more|less|one|longer|matter|doubt|idea)\b)"
)
"""English for what follows is not to be there, and not Portuguese for where something is: `um barco no lago`."""

NO_IS_ELSE = frozenset({"pt", "es", "it"})

NEGATIONS: Mapping[Language, str] = {
    "en": r"\b(?:without|with no|excluding|free of)",
    "es": r"\b(?:sin)",
    "fr": r"\b(?:sans)",
    "de": r"\b(?:ohne|keine?[nmrs]?)",
    "it": r"\b(?:senza)",
    "pt": r"\b(?:sem)",
    "ar": r"\b(?:بدون|من دون|بلا)",
}
NOTHING = (
    r"(?:(?:showing|having|any|a|an|the|all|some|ning[uú]n[ao]?|el|la|los|las|aucune?|les|des|de|die|den|alcun[oa]?|"
    r"nenhuma?|o|os|as|أي)\s+)*"
)
"""Words that say no more of what is unwanted."""

ELSE = (
    r"(?:at|in|on|under|with|without|no|but|by|near|over|behind|before|during|from|for|as|while|that|which|is|are|into|"
    r"and|or|nor|a|an|the|en|con|al|dans|avec|sur|au|im|in|mit|am|auf|bei|und|oder|e|ed|o|y|ni|ou|et|com|no|na|com|"
    r"في|مع|على)"
)
"""Words that the next thing begins with."""

WORD = rf"(?!{ELSE}\b)[^\W\d_][\w'’-]*+"
THING = rf"{NOTHING}{WORD}(?:[ ]{WORD}){{0,2}}"
AND, OR = r"(?:and|or|nor|y|o|ni|et|ou|und|oder|e|و|أو)", r"(?:or|nor|o|ni|ou|oder|أو)"
THINGS = (
    rf"{THING}(?:,\s+{THING})*,?\s+{OR}\s+{THING}|"
    rf"{NOTHING}{WORD}\s+{AND}\s+{NOTHING}{WORD}(?!\s+\w)|{THING}"
)
"""A list that ends with "or", two things of one word each, or one."""

UNSPACED: Mapping[Language, str] = {
    "ja": r"(?P<things>[^\s、。，,！？がはをにで]{1,10}?)(?:のない|のいない|がない|がいない|なし|無し)(?:で|の)?",
    "zh": r"(?:没有|沒有|不要|无|無)(?P<things>[^\s，。、,！？的]{1,8})的?",
}

UNWANTED = {
    language: re.compile(rf"{negation}\s+(?P<things>{THINGS})", re.IGNORECASE)
    for language, negation in NEGATIONS.items()
} | {language: re.compile(pattern) for language, pattern in UNSPACED.items()}

UNWANTED_BY_NO = re.compile(rf"{NO}\s+(?P<things>{THINGS})", re.IGNORECASE)

QUOTED = re.compile(r'("[^"]*"|“[^”]*”|«[^»]*»|「[^」]*」)')
"""What is to be drawn as text."""

LEFT_OVER = re.compile(r"^(?:\s|[,;，、.!。]|(?:and|but)\b)+|(?:\s|[,;，、]|\b(?:and|but|with))+$")
PARTED = re.compile(rf",\s*|\s+{AND}\s+")


class Wish(NamedTuple):
    """What is wanted, as one line, and the things that are not."""

    wanted: str
    unwanted: tuple[str, ...] = ()


def parted(user_prompt: str, language: Language) -> Wish:
    """Part a wish; what is not wanted is looked for in English and in the prompt's language."""
    text = plain(user_prompt)
    unwanted: list[str] = []

    def take(found: re.Match[str]) -> str:
        things = PARTED.split(found["things"])
        unwanted.extend(bare for thing in things if (bare := re.sub(rf"^{NOTHING}", "", thing).strip()))
        return ""

    patterns = [UNWANTED[spoken] for spoken in dict.fromkeys(("en", language))]
    patterns += [] if language in NO_IS_ELSE else [UNWANTED_BY_NO]
    for pattern in patterns:
        text = "".join(said if at % 2 else pattern.sub(take, said) for at, said in enumerate(QUOTED.split(text)))
    if unwanted:
        text = LEFT_OVER.sub("", re.sub(r"\s*([,;，、.!。])(?:\s*[,;，、.!。])*", r"\1", " ".join(text.split())))
    return Wish(text, tuple(dict.fromkeys(unwanted)))


def said_positively(wish: Wish) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Say what is there in place of what is unwanted.

    Returns:
        The wish, and the things that are said by their opposites, and those that no opposite is known of.
    """
    known = [thing for thing in wish.unwanted if _instead(thing)]
    instead = dict.fromkeys(_instead(thing) for thing in known)
    left_out = tuple(thing for thing in wish.unwanted if thing not in known)
    return ", ".join(filter(None, [wish.wanted.rstrip(" .。"), *instead])), tuple(known), left_out


def names(thing: str, label: str) -> bool:
    """Tell whether a thing is what a label names, in one or many."""
    return thing.casefold().rstrip("s") == label.casefold().rstrip("s")


def _instead(thing: str) -> str:
    return POSITIVE.get(thing.casefold().split()[-1], "")
