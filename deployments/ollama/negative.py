"""The negative prompt: composed of lists, never asked of a model, so that it is there at once and always the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from deployments.ollama.answer import UNIT
from deployments.ollama.budget import clip_tokens
from deployments.ollama.fitting import Form, fit
from deployments.ollama.targets import Target

LONGEST = 75
"""CLIP reads a negative prompt as it reads the other, and so many tokens of it; for other readers it is enough."""

_PHOTO, _DRAWN = ("photo", "photorealistic"), ("painting", "drawing", "illustration", "cartoon")

OPPOSITES: Mapping[str, Sequence[str]] = {
    "photorealistic": (*_DRAWN, "3d render"),
    "digital art": _PHOTO,
    "watercolor": (*_PHOTO, "3d render"),
    "oil painting": (*_PHOTO, "3d render"),
    "sketch": (*_PHOTO, "3d render"),
    "3D render": ("photo", "sketch", "flat colors"),
    "anime": (*_PHOTO, "3d render"),
    "cartoon": (*_PHOTO, "3d render"),
    "comic book": (*_PHOTO, "3d render"),
    "pixel art": (*_PHOTO, "smooth shading"),
    "vintage": ("modern",),
    "modern": ("vintage",),
    "abstract": ("photorealistic",),
    "calm": ("chaotic", "busy"),
    "peaceful": ("chaotic", "busy"),
    "energetic": ("static", "lifeless"),
    "melancholic": ("cheerful",),
    "joyful": ("gloomy",),
    "dramatic": ("flat lighting",),
    "dark": ("bright", "overexposed"),
    "bright": ("dark", "underexposed"),
    "minimal": ("cluttered",),
    "close-up": ("wide shot",),
    "wide angle": ("close-up",),
    "aerial view": ("eye level", "close-up"),
    "warm tones": ("cool tones",),
    "cool tones": ("warm tones",),
    "vibrant": ("dull colors",),
    "saturated": ("dull colors",),
    "neon": ("dull colors",),
    "muted": ("oversaturated",),
    "natural": ("oversaturated",),
    "pastel": ("harsh colors",),
    "monochrome": ("colorful",),
    "high contrast": ("low contrast",),
    "low contrast": ("high contrast",),
}
"""What a picture is not that surely is this."""


def negative_prompt(target: Target, sure: Iterable[str], wanted: Iterable[str], unwanted: Sequence[str]) -> str | None:
    """Compose what the generator is to avoid; None where the target has no place for it.

    Args:
        target: whose lists are taken.
        sure: the labels that are sure to be seen.
        wanted: texts that the prompt is made from: what they name is not avoided.
        unwanted: what a wish says that it does not want, in its own words; it comes first.
    """
    if target.negative is None:
        return None
    said = {word.casefold() for text in wanted for word in UNIT.findall(text)}
    opposites = [other for label in sure for other in OPPOSITES.get(label, ())] if target.negative.opposites else []
    by_rule = [
        phrase
        for phrase in (*target.negative.always, *opposites)
        if not {word.casefold() for word in UNIT.findall(phrase)} <= said
    ]
    form = Form(clip_tokens, LONGEST, in_phrases=True, weigh=target.weighs)
    return fit(form, ", ".join([*unwanted, *by_rule])).text
