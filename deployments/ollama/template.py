"""The prompt without a model: labels, measured colours and the caller's words put together by rule.

The sentences are English in every language. The labels are the operator's and come in English, image models
are trained on English first, and half a sentence of each would serve nobody; `shortcomings` says so.
"""

from __future__ import annotations

from deployments.ollama.colours import named_shares
from deployments.ollama.instructions import LANGUAGE_NAMES, plain
from deployments.types import PromptRequest

RUNNER_UP_SHARE = 0.5
"""A second label is worth naming from this part of the first one's score; in deep mode all are."""

SURE_SUBJECT_SHARE = 0.25
"""A best subject with a smaller share of its category is a guess; an image model would paint it all the same."""

STANDARD_COLOURS, DEEP_COLOURS = 3, 5
"""How many colours are named: more than a few and an image model blends them."""

SENTENCE_ENDS = tuple(".!?…。！？؟")

DEEP_FINISH = "Rendered in rich detail, with carefully observed light, texture and depth."


def compose(request: PromptRequest) -> str:
    """Write one paragraph; the same request always gives the same text."""
    sentences = []
    wish = plain(request.options.user_prompt)
    if wish:
        sentences.append(wish if wish.endswith(SENTENCE_ENDS) else f"{wish}.")
    sentences.append(_scene(request))
    framing = _labels(request, "composition")
    if framing:
        sentences.append(f"Composition: {', '.join(framing)}.")
    sentences.extend(_colours(request))
    if request.options.deep_thinking:
        sentences.append(DEEP_FINISH)
    return " ".join(sentences)


def shortcomings(request: PromptRequest) -> tuple[str, ...]:
    """Say what this request could expect and `compose` does not do."""
    told = []
    if not plain(request.options.user_prompt) and not _subjects_are_sure(request):
        told.append("What the picture shows is too uncertain to be named: say it in user_prompt.")
    if request.options.language != "en":
        told.append(f"Composed prompts are in English only: {LANGUAGE_NAMES[request.options.language]} needs Ollama.")
    return tuple(told)


def _scene(request: PromptRequest) -> str:
    # Labels are nouns and adjectives mixed ("food", "indoor"): a list in apposition stays grammatical with either.
    subjects = _labels(request, "subjects") if _subjects_are_sure(request) else []
    style = _labels(request, "style")
    mood = _labels(request, "mood")
    parts = [_listed(subjects) if subjects else "a scene"]
    if style:
        parts.append(f"in {_listed(style)} style")
    if mood:
        parts.append(f"{_listed(mood)} in mood")
    scene = ", ".join(parts)
    return f"{scene[0].upper()}{scene[1:]}."


def _subjects_are_sure(request: PromptRequest) -> bool:
    subjects = request.seen.get("subjects", ())
    return bool(subjects) and subjects[0].score >= SURE_SUBJECT_SHARE


def _colours(request: PromptRequest) -> list[str]:
    tones = _labels(request, "color_palette")
    kept = DEEP_COLOURS if request.options.deep_thinking else STANDARD_COLOURS
    measured = list(named_shares(request.palette).items())[:kept]
    names = [f"{name} ({share:.0%})" if request.options.deep_thinking else name for name, share in measured]
    parts = [", ".join(tones)] if tones else []
    if names:
        parts.append(f"mainly {_listed(names)}")
    return [f"Color palette: {'; '.join(parts)}."] if parts else []


def _labels(request: PromptRequest, category: str) -> list[str]:
    scores = request.seen.get(category, ())
    least = 0.0 if request.options.deep_thinking or not scores else RUNNER_UP_SHARE * scores[0].score
    return [label.value for label in scores if label.score >= least]


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
