"""The prompt without a model: labels, measured colours and the caller's words put together by rule.

It reads as a person would write it, in the caller's language, and claims nothing that is not sure.
"""

from __future__ import annotations

from deployments.ollama.colours import named_shares
from deployments.ollama.instructions import LEAST_SHARE, TOLD_LABELS, plain
from deployments.ollama.tagged import Named, further, named, with_article
from deployments.ollama.wording import WORDINGS, Wording
from deployments.types import GUESSED_FROM_PIXELS, PromptRequest

RUNNER_UP_SHARE, DEEP_RUNNER_UP_SHARE = 0.5, 0.25
"""A second label is worth naming from this part of the first one's score, of `LEAST_SHARE` of all at least.
Without deep thinking two labels of a category are told, as to a model."""

SURE_SUBJECT_SHARE = 0.25
"""A best subject with a smaller share of its category is a guess; an image model would paint it all the same. So is a
best style."""

SURE_LOOK_SHARE = 0.2
"""The same for mood, composition and tones, of which several are true of one picture and share what they get."""

STANDARD_COLOURS, DEEP_COLOURS = 3, 5
"""How many colours are named: more than a few and an image model blends them."""

LEAST_COLOUR_SHARE = 0.05
"""A colour that covers less of the picture does not make its palette."""

SENTENCE_ENDS = tuple(".!?…。！？؟")

OPPOSITES = frozenset(
    frozenset(pair.split(" / "))
    for pair in (
        "close-up / wide angle",
        "close-up / aerial view",
        "symmetrical / asymmetrical",
        "symmetrical / diagonal composition",
        "symmetrical / rule of thirds",
        "centered subject / rule of thirds",
        "calm / energetic",
        "calm / tense",
        "calm / dramatic",
        "peaceful / energetic",
        "peaceful / tense",
        "peaceful / dramatic",
        "melancholic / joyful",
        "tense / joyful",
        "dramatic / joyful",
        "dark / bright",
        "dark / joyful",
        "intimate / epic",
        "warm tones / cool tones",
        "vibrant / muted",
        "vibrant / monochrome",
        "saturated / muted",
        "saturated / pastel",
        "saturated / monochrome",
        "neon / muted",
        "neon / natural",
        "neon / earth tones",
        "neon / pastel",
        "neon / monochrome",
        "high contrast / low contrast",
    )
)
"""Default labels of which a picture that is told to be both is neither: the better one is told."""


IMPLIED_BY = {
    "landscape": frozenset({"mountains", "forest", "seascape"}),
    "nature": frozenset({"landscape", "mountains", "forest", "seascape"}),
}
"""What is said already by any of these."""


def compose(request: PromptRequest) -> str:
    """Write one paragraph; the same request always gives the same text."""
    wording = WORDINGS[request.options.language]
    sentences = [_view(request, wording), _mood(request, wording), _palette(request, wording)]
    sentences += _further(request, wording)
    if request.options.deep_thinking:
        sentences.append(wording.sentence("in detail"))
    wish = plain(request.options.user_prompt)
    said = [f"{sentence}{wording.sentence_end}" for sentence in sentences if sentence]
    if wish:
        said.insert(0, wish if wish.endswith(SENTENCE_ENDS) else f"{wish}{wording.sentence_end}")
    return wording.between_sentences.join(said) or f"{wording.sentence('image')}{wording.sentence_end}"


def shortcomings(request: PromptRequest) -> tuple[str, ...]:
    """Say what this request could expect and `compose` does not do."""
    tagged = _named(request)
    if plain(request.options.user_prompt) or _sure(request, "subjects") or tagged.things or tagged.places:
        return ()
    return ("What the picture shows is too uncertain to be named: say it in user_prompt.",)


def _view(request: PromptRequest, wording: Wording) -> str:
    """What the picture is, what it shows and how it is framed; empty where none of it is sure."""
    style = _sure(request, "style")[:1]
    image = wording.words("style", style)[0] if style else wording.sentence("image")
    shown, framed = _subjects(request, wording)
    framing = wording.phrases(wording.words("framing", [*framed, *_sure(request, "composition")]))
    if shown:
        image = wording.sentence("of", image=image, subjects=shown)
    if framing:
        return wording.sentence("framed" if shown else "only framed", image=image, framing=framing)
    return image if style or shown else ""


def _subjects(request: PromptRequest, wording: Wording) -> tuple[str, list[str]]:
    """Give the things, or else the places, that are shown, and the subjects that are ways to frame them.

    Things are in the likeliest place, as two at once would be neither. A place is not framed as a portrait: of the two
    the likelier is told. What tags name takes the place of labels that say less.
    """
    tagged = _named(request)
    labels = [label for label in _sure(request, "subjects") if tagged.leaves(label)]
    labels = [label for label in labels if IMPLIED_BY.get(label, frozenset()).isdisjoint(labels)]
    framed = [label for label in labels if wording.knows("framing", label)]
    places = [label for label in labels if wording.knows("places", label)]
    own = [label for label in labels if label not in (*framed, *places)]
    things = wording.things([*(with_article(plain(tag.value)) for tag in tagged.things), *wording.words("things", own)])
    if things and (places or tagged.places):
        settings = [f"in {with_article(plain(tag.value))} setting" for tag in tagged.places]
        place = (settings or wording.words("in places", places[:1]))[0]
        things = wording.sentence("in place", things=things, place=place)
    if things:
        return things, framed
    if tagged.places:
        return with_article(plain(tagged.places[0].value)), []
    if labels[:1] == framed[:1]:
        return "", framed
    return wording.things(wording.words("places", places)), []


def _mood(request: PromptRequest, wording: Wording) -> str:
    moods = wording.words("mood", _sure(request, "mood"))
    return wording.sentence("mood", moods=wording.qualities(moods)) if moods else ""


def _palette(request: PromptRequest, wording: Wording) -> str:
    labels = _sure(request, "color_palette")
    tones = [label for label in labels if wording.knows("tones", label)]
    kept = DEEP_COLOURS if request.options.deep_thinking else STANDARD_COLOURS
    measured = [name for name, share in named_shares(request.palette).items() if share >= LEAST_COLOUR_SHARE][:kept]
    # An own tone may be any kind of word, "sepia" or "jewel tones": among the colours all are right.
    own = [label for label in labels if label not in tones]
    colours = wording.things(wording.words("colours", [*own, *measured]))
    said = wording.qualities(wording.words("tones", tones))
    if not colours:
        return wording.sentence("tones", tones=said) if said else ""
    return wording.sentence("colours in tones" if said else "colours", colours=colours, tones=said)


def _further(request: PromptRequest, wording: Wording) -> list[str]:
    """What categories beyond the contract's say, each in a sentence, and details that have tags."""
    said = [(title, plain(label.value)) for title, label in further(request)]
    if details := _named(request).details:
        said.append(("Details", ", ".join(plain(tag.value) for tag in details)))
    return [wording.sentence("further", category=category, label=label) for category, label in said]


def _named(request: PromptRequest) -> Named:
    """What tags name; they are English, and say nothing in another language."""
    return named(request) if request.options.language == "en" else Named()


def _sure(request: PromptRequest, category: str) -> list[str]:
    """The labels of a category that can be claimed, best first, as one line each."""
    scores = request.seen.get(category, ())
    sure = SURE_SUBJECT_SHARE if category in GUESSED_FROM_PIXELS else SURE_LOOK_SHARE
    if not scores or scores[0].score < sure:
        return []
    share = DEEP_RUNNER_UP_SHARE if request.options.deep_thinking else RUNNER_UP_SHARE
    least = max(LEAST_SHARE, share * scores[0].score)
    told: list[str] = []
    for label in scores:
        word = plain(label.value).strip(" ,.;:、。，،")
        if word and label.score >= least and not any(frozenset((word, other)) in OPPOSITES for other in told):
            told.append(word)
    return told if request.options.deep_thinking else told[:TOLD_LABELS]
