"""What a request comes to for its target: what a model is asked, how its words are fitted, what is said by rule.

All but the words in the middle is made here, so that it is the same whoever writes those.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from deployments.ollama.answer import UNIT, Prompt
from deployments.ollama.budget import COUNTS, answer_tokens, words_asked
from deployments.ollama.colours import colour_name
from deployments.ollama.fitting import PALETTE, Form, Tail, fit
from deployments.ollama.instructions import LANGUAGE_NAMES, LEAST_SHARE, plain
from deployments.ollama.negative import negative_prompt
from deployments.ollama.phrases import NAMED_COLOURS, light, more, phrases, sure_labels, tags, weights
from deployments.ollama.tagged import PLACES, STYLES, THINGS, named
from deployments.ollama.targets import BLANK, Part, Target
from deployments.ollama.template import OPPOSITES, SURE_SUBJECT_SHARE, compose, shortcomings
from deployments.ollama.wishes import UNSPACED, Wish, names, parted, said_positively
from deployments.types import CATEGORIES, PromptComplete, PromptRequest, PromptSource, Scores, SpentBudget, Tag

UNIT_NAMES = {"clip_tokens": "tokens of CLIP", "words": "words", "characters": "characters", "phrases": "phrases"}


@dataclass(frozen=True, slots=True)
class Brief:
    """A request as it is written for a target.

    `request`: with the wish, the language and the labels that are told. `deep`: whether it is to be freer. `form`: None
    where a prompt stands as it comes. `words`: those to fit where no model writes; empty for `compose`'s.
    `needs_model`: whether one may do better.
    """

    target: str
    request: PromptRequest
    deep: bool
    ask: str = ""
    num_predict: int | None = None
    form: Form | None = None
    unit: str = ""
    words: str = ""
    needs_model: bool = True
    negative: str | None = None
    size: str = ""
    warnings: tuple[str, ...] = ()

    def composed(self) -> Prompt:
        """Write it without a model."""
        text = self.words or compose(self.request)
        if self.form is None:
            return Prompt(text, truncated=False)
        # The composer's own words say nothing that a part after them is for.
        wished = {word.casefold() for word in UNIT.findall(self.request.options.user_prompt)}
        after = tuple(Tail(tail.text) for tail in self.form.after if wished.isdisjoint(tail.unless))
        fitted = fit(replace(self.form, after=after), text)
        return Prompt(fitted.text, truncated=False, over=fitted.truncated and self.needs_model)

    def shortcomings(self) -> tuple[str, ...]:
        """Say what a model would have done better."""
        return shortcomings(self.request) if self.needs_model else ()

    def complete(
        self,
        prompt: Prompt,
        source: PromptSource,
        warnings: tuple[str, ...] = (),
        model: str = "",
        *,
        vision: bool = False,
    ) -> PromptComplete:
        """Give the whole prompt with all that belongs to it."""
        budget = None
        if self.form is not None:
            budget = SpentBudget(self.form.count(prompt.text), self.form.limit, self.unit)
        if prompt.over and budget:
            warnings = (*warnings, f"Not all of it fits into {budget.limit} {UNIT_NAMES[self.unit]}.")
        return PromptComplete(
            prompt.text,
            source,
            (*warnings, *self.warnings),
            prompt.truncated or prompt.over,
            model,
            vision=vision,
            target=self.target,
            negative=self.negative,
            size=self.size,
            budget=budget,
        )


def brief_of(request: PromptRequest, name: str, target: Target) -> Brief:
    """Make ready what is the same with a model and without; nothing for a target whose prompts stand as they come."""
    warnings = []
    if request.options.weights and not target.weighs:
        warnings.append(f"{target.title} takes no weights: none are in the prompt.")
    deep, long = request.options.deep_thinking, request.options.wanted_length == "long"
    if deep != long:
        request = replace(request, options=replace(request.options, deep_thinking=long))
    if request.options.without:
        request = replace(request, scores=_without(_left_out(request), request))
    if request.tags:
        request = replace(request, tags=_fitting_tags(request))
    if target.budget is None:
        return Brief(name, request, deep, size=_size(target, request), warnings=tuple(warnings))
    language = request.options.language
    if language not in target.languages:
        language = target.languages[0]
        taken = " and ".join(LANGUAGE_NAMES[taken] for taken in target.languages)
        warnings.append(f"{target.title} is told in {taken}: the prompt is in {LANGUAGE_NAMES[language]}.")
    wish, told = _wish(request, target)
    warnings += told
    options = replace(request.options, user_prompt=wish.wanted, language=language)
    request = replace(request, scores=_without(wish.unwanted, request), options=options)
    form = _form(request, target, wish)
    asked = words_asked(target.budget.unit, form.limit, fit(form, "").text)
    sure = sure_labels(request)
    return Brief(
        target=name,
        request=request,
        deep=deep,
        ask=target.ask.replace("{words}", f"{asked} {'characters' if language in UNSPACED else 'words'}"),
        num_predict=answer_tokens(asked),
        form=form,
        unit=target.budget.unit,
        words=_words(request, target),
        needs_model=target.shape != "tags",
        negative=negative_prompt(target, sure, [wish.wanted, *sure, *_told(request)], wish.unwanted),
        size=_size(target, request),
        warnings=tuple(warnings),
    )


def _wish(request: PromptRequest, target: Target) -> tuple[Wish, list[str]]:
    wish = parted(request.options.user_prompt, request.options.language)
    has_place = target.negative is not None or target.fills("unwanted") or target.shape == "tags"
    if has_place:
        return Wish(wish.wanted, tuple(dict.fromkeys([*wish.unwanted, *_left_out(request)]))), []
    if not wish.unwanted:
        return wish, []
    wanted, known, left_out = said_positively(wish)
    told = []
    if known:
        told.append(f"{target.title} has no negative prompt: in place of {', '.join(known)} it is told what is there.")
    if left_out:
        told.append(f"{target.title} has no negative prompt for {', '.join(left_out)}: say what is there instead.")
    return Wish(wanted, wish.unwanted), told


def _left_out(request: PromptRequest) -> list[str]:
    """Give what the caller has left out, without what would be a parameter to a generator: `--v 4`."""
    return [plain(thing).replace("--", "") for thing in request.options.without]


def _fitting_tags(request: PromptRequest) -> tuple[Tag, ...]:
    """Leave out the tags of what is not wanted, and those that repeat or contradict what else is told."""
    wish = parted(request.options.user_prompt, request.options.language)
    unwanted = [_singular(thing) for thing in (*wish.unwanted, *_left_out(request))]
    labels = [label for scores in request.seen.values() for label in scores if label.score >= LEAST_SHARE]
    said = _singular(" ".join([wish.wanted, *(label.value for label in labels)]))
    style = next(iter(request.seen.get("style", ())), None)
    has_style = style is not None and style.score >= SURE_SUBJECT_SHARE

    def fits(tag: Tag) -> bool:
        words = _singular(tag.value)
        if any(thing <= words for thing in unwanted):
            return False
        if tag.group in THINGS | PLACES:
            return True
        contradicts = any(frozenset((tag.value, label.value)) in OPPOSITES for label in labels)
        return not (words <= said or contradicts or (has_style and tag.group in STYLES))

    return tuple(filter(fits, request.tags))


def _singular(text: str) -> set[str]:
    return {word.casefold().rstrip("s") for word in UNIT.findall(text)}


def _told(request: PromptRequest) -> list[str]:
    tagged = named(request)
    return [seen.value for seen in (*tagged.things, *tagged.places, *more(request))]


def _without(unwanted: Iterable[str], request: PromptRequest) -> Scores:
    return {
        category: tuple(label for label in scores if not any(names(thing, label.value) for thing in unwanted))
        for category, scores in request.scores.items()
    }


def _form(request: PromptRequest, target: Target, wish: Wish) -> Form:
    assert target.budget is not None  # noqa: S101 - for mypy
    in_phrases = target.shape != "sentences"
    blanks = _blanks(request, target, wish)
    labels = [scores[0].value for category in CATEGORIES if (scores := request.seen.get(category))]
    said = {word.casefold() for text in (wish.wanted, *labels, *_told(request)) for word in UNIT.findall(text)}
    before = [_filled(part, blanks) for part in target.before if said.isdisjoint(part.unless)]
    after = [Tail(text, frozenset(part.unless)) for part in target.after if (text := _filled(part, blanks))]
    return Form(
        count=COUNTS[target.budget.unit],
        limit=target.budget.limit(request.options.wanted_length),
        in_phrases=in_phrases,
        before=tuple(filter(None, before)),
        after=tuple(after),
        weigh=target.weighs,
        parameters=target.parameters,
        weights=weights(request) if target.weighs and request.options.weights else {},
        colours=_colours(request) if target.fills("palette") else {},
    )


def _blanks(request: PromptRequest, target: Target, wish: Wish) -> dict[str, str]:
    sure = sure_labels(request)
    chosen = {
        name: next((choice.labels[label] for label in sure if label in choice.labels), choice.default)
        for name, choice in target.choices.items()
    }
    return {
        "aspect_ratio": request.aspect_ratio,
        "palette": PALETTE if request.palette else "",
        "light": light(request) if target.fills("light") else "",
        "unwanted": ", ".join(wish.unwanted),
        **chosen,
    }


def _filled(part: Part, blanks: Mapping[str, str]) -> str:
    """Fill a part's blanks; empty if one of them is."""
    if not all(blanks[blank] for blank in BLANK.findall(part.text)):
        return ""
    return BLANK.sub(lambda blank: blanks[blank[1]], part.text)


def _colours(request: PromptRequest) -> dict[str, str]:
    codes: dict[str, str] = {}
    for swatch in request.palette:
        codes.setdefault(colour_name(swatch.hex), swatch.hex)
    return dict(list(codes.items())[:NAMED_COLOURS])


def _words(request: PromptRequest, target: Target) -> str:
    if target.shape == "sentences":
        return ""
    seen = tags(request) if target.shape == "tags" else phrases(request)
    return ", ".join(filter(None, [request.options.user_prompt, *seen]))


def _size(target: Target, request: PromptRequest) -> str:
    """Choose the size whose ratio is nearest to the picture's."""
    if not target.sizes or not request.aspect_ratio:
        return target.sizes[0] if target.sizes else ""
    wanted = _log_ratio(request.aspect_ratio, ":")
    return min(target.sizes, key=lambda size: abs(_log_ratio(size, "x") - wanted))


def _log_ratio(sides: str, between: str) -> float:
    width, height = sides.split(between)
    return math.log(int(width) / int(height))
