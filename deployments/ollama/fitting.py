"""From a model's words to a prompt that its generator takes: fixed parts first, then what fits, whole.

It works while the words come, and takes nothing back: what `take` gives stands in the prompt. A phrase is given when it
is whole and fits. So is a sentence, whose phrases are given as they come while less than half of the budget is used;
where such a long one does not fit, it ends with its last phrase that does.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from deployments.ollama.answer import CJK, PHRASE_END, SENTENCE_END, UNIT
from deployments.ollama.instructions import UNPRINTABLE

BULLET = re.compile(r"\s(?:[-–—•*]|\d{1,2}[.)])\s|\n")
BOUND = re.compile(
    rf"(?P<sentence>{SENTENCE_END.pattern})|(?P<bullet>{BULLET.pattern})|(?P<phrase>{PHRASE_END.pattern})"
)
NOTE_NAME = re.compile(
    r"^(?:subjects?|style|mood|composition|colou?rs?|details|with|tags|prompt)\s*[:：]\s*"
    r"|^the (?:subjects?|style|mood|composition|colou?rs?|light(?:ing)?|scene) (?:is|are)\s+",
    re.IGNORECASE,
)
CAPITAL = re.compile(r"^[A-Z](?=[a-z]|\s|$)")
PARAMETER = re.compile(r"-{2,}\w+(?:\s+\d[\w.:]*)?|:{2,}[\d.]*")
LONG_DASH = re.compile(r"\s*(?:—|-{2,})\s*")
"""Where parameters are orders, a generator takes a dash that people write for one."""

EDGES = " \t,;:，；、،–—"
REPEATED_COMMAS = re.compile(r"\s*([,;，；、،])(?:\s*[,;，；、،])+")
SPACE_BEFORE_COMMA = re.compile(r"\s+(?=[,;，；、،])")
ENDED = re.compile(r"[.!?…؟。！？][\"'”’»」)]*\Z")

LIGHT_COLOUR = re.compile(
    r"\blight[ -](?=(?:red|orange|yellow|green|teal|blue|purple|pink|gr[ae]y|brown)\b)", re.IGNORECASE
)
"""A colour that is light says nothing of the light."""

PALETTE = "{palette}"

COMMAS = ",;，；、،"

COLOUR = r"(?<!light )(?<!dark )(?<![\w-]){}(?![\w-])"

FLOWS_BELOW = 0.5
"""A sentence that begins below this share of the budget is given phrase by phrase: it will hardly not fit."""


@dataclass(frozen=True, slots=True)
class Tail:
    """A part after the words, left out where they already say it; with `PALETTE` for the colours that they do not."""

    text: str
    unless: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Form:
    """How a prompt is put together.

    Args:
        limit: the most units that `count` may find in the whole.
        in_phrases: parted by commas; else in sentences.
        weigh: whether brackets are weights, and so escaped in words.
        parameters: whether `--name` is an order to the generator, and so taken out of words.
        weights: of labels; a phrase has the highest of those that it says.
        colours: name → code, which is put behind the first mention of the name.
    """

    count: Callable[[str], int]
    limit: int
    in_phrases: bool
    before: tuple[str, ...] = ()
    after: tuple[Tail, ...] = ()
    weigh: bool = False
    parameters: bool = False
    weights: Mapping[str, float] = field(default_factory=dict)
    colours: Mapping[str, str] = field(default_factory=dict)


class Fitted(NamedTuple):
    """The prompt, its length in the budget's unit, whether something did not fit or was cut off, and if it has words.

    Those are of more than the fixed parts.
    """

    text: str
    units: int
    limit: int
    truncated: bool
    has_words: bool


class Fitter:
    """Takes a model's words piece by piece, however they are cut, and gives what will stand."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._joiner = ", " if form.in_phrases else " "
        self._prefix = self._joiner.join(form.before)
        self._suffix = self._joiner.join(self._tails())
        self._body = ""
        self.given = ""
        """What stands, as far as it was given."""
        self._held = ""
        self._mid_sentence = self._flows = False
        self._between = " "
        self._sentence = ""
        self._weights = {_said(label): weight for label, weight in form.weights.items()}
        self._said = {_said(phrase) for part in form.before for phrase in part.split(",")}
        self.full = False
        self.truncated = False

    def take(self, piece: str) -> str:
        """Take the next piece and give what stands now; nothing more is wanted once `full`."""
        self._held += piece
        self._read(last=False)
        return self._news(self._whole(self._body))

    def end(self, *, cut: bool = False) -> tuple[str, Fitted]:
        """Give the rest and the whole.

        Args:
            cut: whether the model broke off or went round, so that what is not whole is left out.
        """
        self._read(last=True)
        if cut:
            self.truncated = True
            if self._body or self._sentence:
                self._held = ""
                self._sentence = self._sentence if not self._body else ""
        if not self.full and self._held:
            self._unit(self._held, ends=True)
        if not self.full and self._sentence:
            self._add(self._clean(self._sentence), ends=True)
        self._close()
        text = self._joiner.join(filter(None, [self._whole(self._body), *self._tails(self._body)]))
        fitted = Fitted(text, self._form.count(text), self._form.limit, self.truncated, bool(self._body))
        return self._news(text), fitted

    def _tails(self, body: str = "") -> Iterator[str]:
        said = {word.casefold() for word in UNIT.findall(LIGHT_COLOUR.sub("", body))}
        colours = " and ".join(f"{name} {code}" for name, code in self._form.colours.items() if code not in body)
        for tail in self._form.after:
            if not tail.unless & said and (colours or PALETTE not in tail.text):
                yield tail.text.replace(PALETTE, colours.replace(" and ", ", ", colours.count(" and ") - 1))

    def _read(self, *, last: bool) -> None:
        while not self.full:
            bound = BOUND.search(self._held)
            if bound is None or (bound.end() == len(self._held) and not last):
                break
            kind = bound.lastgroup or ""
            words = self._held[: bound.start()]
            ends = kind != "phrase"
            if not self._form.in_phrases:
                mark = bound[0].strip() if kind == "sentence" else "" if kind == "bullet" else bound[0]
                words += mark
            self._held = self._held[bound.end() :]
            self._unit(words, ends)

    def _unit(self, words: str, ends: bool) -> None:
        if self._form.in_phrases:
            self._phrase(self._clean(words))
            return
        words = self._clean(words)
        if not self._mid_sentence and not self._sentence:
            used = self._form.count(self._around(self._body))
            self._flows = used < FLOWS_BELOW * self._form.limit
        if self._flows:
            self._add(words, ends=ends)
            return
        self._sentence = _joined(self._sentence, words)
        if ends:
            whole, self._sentence = self._clean(self._sentence), ""
            self._add(whole, ends=True)

    def _phrase(self, words: str) -> None:
        words = NOTE_NAME.sub("", words).strip(EDGES + ".")
        words = CAPITAL.sub(lambda letter: letter[0].lower(), words)
        said = _said(words)
        if not said or said in self._said:
            return
        self._said.add(said)
        words = self._with_codes(words)
        if self._form.weigh:
            words = re.sub(r"([()\[\]])", r"\\\1", words)
            weight = max((w for label, w in self._weights.items() if f" {label} " in f" {said} "), default=1.0)
            if f"{weight:.1f}" != "1.0":
                words = f"({words}:{weight:.1f})"
        if not self._grow(words):
            self._shorten(words)

    def _add(self, words: str, *, ends: bool) -> None:
        body = words.lstrip(EDGES) if ends else words.strip(EDGES)
        if not UNIT.search(body):
            if ends:
                self._close()
            return
        body = self._with_codes(body)
        if not self._body and body[0].upper().lower() == body[0]:
            body = body[0].upper() + body[1:]
        grown = self._body + self._between + body if self._mid_sentence else _joined(self._body, body)
        if self._form.count(self._around(_closed(grown))) <= self._form.limit:
            self._body = _closed(grown) if ends else grown
            self._mid_sentence = not ends
            mark = words[-1:] if words[-1:] in COMMAS and not ends else ""
            self._between = mark if mark and mark in "，；、" else f"{mark} "
        elif self._mid_sentence or self._body:
            self._close()
            self.full = self.truncated = True
        else:
            self._shorten(body)

    def _close(self) -> None:
        if not self._form.in_phrases and self._body:
            self._body = _closed(self._body)
        self._mid_sentence = False

    def _shorten(self, words: str) -> None:
        self.truncated = True
        if self._body:
            self.full = True
            return
        if self._form.weigh and words.endswith(")") and words.startswith("("):
            return
        fits = ""
        for word in words.split():
            longer = f"{fits} {word}" if fits else word
            if self._form.count(self._around(self._ended(longer))) > self._form.limit:
                break
            fits = longer
        fits = fits.rstrip(EDGES)
        if fits:
            self._body = self._ended(fits)
            self.full = True

    def _ended(self, words: str) -> str:
        return words if self._form.in_phrases else _closed(words)

    def _grow(self, words: str) -> bool:
        grown = self._joiner.join(filter(None, [self._body, words]))
        if self._form.count(self._around(grown)) > self._form.limit:
            return False
        self._body = grown
        return True

    def _whole(self, body: str) -> str:
        return self._joiner.join(filter(None, [self._prefix, body]))

    def _around(self, body: str) -> str:
        return self._joiner.join(filter(None, [self._whole(body), self._suffix]))

    def _with_codes(self, words: str) -> str:
        for name, code in self._form.colours.items():
            if code not in self._body:
                words = re.sub(COLOUR.format(name), rf"\g<0> {code}", words, count=1, flags=re.IGNORECASE)
        return words

    def _news(self, text: str) -> str:
        news = text[len(self.given) :]
        self.given = text
        return news

    def _clean(self, words: str) -> str:
        words = "".join(" " if unicodedata.category(char) in UNPRINTABLE else char for char in words)
        if self._form.weigh:
            words = words.replace("\\", " ")
        if self._form.parameters:
            words = LONG_DASH.sub(", ", PARAMETER.sub(" ", words))
        words = REPEATED_COMMAS.sub(r"\1", " ".join(words.split()))
        return SPACE_BEFORE_COMMA.sub("", words).strip()


def fit(form: Form, text: str, *, cut: bool = False) -> Fitted:
    """Fit a text that is there already."""
    fitter = Fitter(form)
    fitter.take(text)
    return fitter.end(cut=cut)[1]


def _closed(sentence: str) -> str:
    sentence = sentence.rstrip(EDGES)
    if not sentence or ENDED.search(sentence):
        return sentence
    return f"{sentence}。" if re.search(rf"[{CJK}]\W*\Z", sentence) else f"{sentence}."


def _joined(before: str, after: str) -> str:
    if not before or not after:
        return before or after
    return f"{before}{after}" if re.search(r"[，；、。！？]\Z", before) else f"{before} {after}"


def _said(words: str) -> str:
    return " ".join(UNIT.findall(words.casefold()))
