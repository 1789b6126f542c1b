"""From what a model says to the prompt in it: thoughts, lead-ins, repetitions and broken ends taken away as it comes.

What models say around a prompt was seen in SmolLM2-135M's answers and in the recordings of real Ollama servers;
`python -m benchmarks.prompt_quality` counts what is left of it. Each stage gives the same, however the text is cut.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

MARK = re.compile(r"<(?P<end>/?)(?:think|thinking|thought)>|(?P<fence>```\w*)|\*\*", re.IGNORECASE)
"""The bounds of a thought, as models write it of which their server does not know that they think; fences; bold."""

PERHAPS_MARK = re.compile(r"(?:<[/a-z]{0,9}|`{1,2}|\*)\Z", re.IGNORECASE)
"""The beginning of one, at the end of what has come."""

SAID_BEFORE = r"(?:here(?:['’]s| is| are)|sure|certainly|of course|okay|absolutely|the following|below is)\b"
TITLE = r"(?:assistant|(?:(?:image|text-to-image|generation)[ -])?prompt|description|answer|output|result)"
LEAD_IN = re.compile(
    rf"\s+|#+\s|{TITLE}\s*[:：]|{SAID_BEFORE}[^.!\n:：]{{0,120}}[:：\n]|{SAID_BEFORE}[^.!\n:：]{{0,20}}[.!]",
    re.IGNORECASE,
)
LEAD_IN_BEGINS = re.compile(SAID_BEFORE, re.IGNORECASE)

HELD_CHARS = 40
"""Of the beginning so much is held back: room for a title, and for a quotation mark that closes at once."""

HELD_LEAD_IN_CHARS = 140
"""Of a beginning that sounds like a lead-in, this much."""

QUOTES = {'"': '"', "'": "'", "“": "”", "„": "“", "«": "»", "「": "」"}

SENTENCE_END = re.compile(r"[.!?…؟]+[\"'”’»」)]*(?=\s)|[。！？]+[」”)]*")
LAST_END = re.compile(rf"(?:{SENTENCE_END.pattern}|[.!?…؟]+[\"'”’»」)]*\Z)")
PHRASE_END = re.compile(r"[,;–—](?=\s|\Z)|[、，；؛،]")

CJK = "\u3040-\u30ff\u3400-\u9fff"
UNIT = re.compile(rf"[{CJK}]|[^\W{CJK}]+")
"""What repetitions are counted in: words; in Japanese and Chinese, characters."""

LOOP_WORDS, LOOP_CHARACTERS, LOOP_TIMES = 4, 10, 3
"""So many words, or characters, in a row, so often said, are a loop: 20 of 24 of SmolLM2-135M's answers had one."""

ANNOUNCES = (":", "：")
"""What ends so tells of something that did not come, and is no prompt itself ("The original code is:")."""

MIN_PROMPT_CHARS = 20
"""A shorter first paragraph is a title, and a shorter text is kept as it is where its end is broken."""


class Prompt(NamedTuple):
    """The prompt in an answer.

    `truncated`: its model was stopped, or a broken end or a loop had to be cut away. `over`: its budget left no room
    for all.
    """

    text: str
    truncated: bool
    over: bool = False


class Answer:
    """Takes a model's answer piece by piece, and gives what of it may be shown.

    Args:
        max_chars: the longest prompt: what is more is not shown, however long a thought was before it.
    """

    def __init__(self, max_chars: float = math.inf) -> None:
        self._max_chars = max_chars
        self._marks = _Marks()
        self._start_over()

    def _start_over(self) -> None:
        self.shown = ""
        """All that `take` has given since it last took something back."""

        self._head, self._paragraph, self._sentences, self._loop = _Head(), _Paragraph(), _Sentences(), _Loop()

    @property
    def finished(self) -> bool:
        """Whether nothing more is wanted: the paragraph has ended, it loops, or it is as long as it may be."""
        return self._paragraph.ended or self._loop.begins_at is not None or self._full

    @property
    def _full(self) -> bool:
        return len(self.shown) >= self._max_chars

    @property
    def thinking(self) -> bool:
        """Whether what came last is a thought."""
        return self._marks.thinking

    @property
    def thought(self) -> bool:
        """Whether there was a thought inside the text."""
        return self._marks.thought

    def take(self, piece: str, *, last: bool = False) -> tuple[str, bool]:
        """Take the next piece.

        Returns:
            What is to be shown now, often all of it, sometimes nothing yet; and whether all that was shown before has
            turned out to be a thought, and is to be taken back.
        """
        text, voided = self._marks.take(piece, last)
        voided_text = voided and bool(self.shown)
        if voided:
            self._start_over()
        text = self._head.take(text, last)
        text = self._paragraph.take(text)
        text = self._sentences.take(text, last)
        if len(self.shown) + len(text) > self._max_chars:
            text = text[: int(self._max_chars) - len(self.shown)]
        self.shown += text
        self._loop.look_at(self.shown, last)
        return text, voided_text

    def end(self, *, cut: bool) -> Prompt:
        """Give the prompt: where its end is broken, up to its last whole sentence or else phrase.

        Args:
            cut: whether the model was stopped before it had said all.

        Returns:
            An empty one where there is nothing but a thought, what loops from the beginning, or a lead-in.
        """
        taken = self.shown
        text, cut = self.close(cut=cut)
        kept = _to_last_end(text, cut)
        if self._loop.begins_at is not None and len(kept) < MIN_PROMPT_CHARS:
            kept = ""
        truncated = cut or len(kept) < len(self.shown)
        if not kept:
            self.shown = taken
        return Prompt(kept, truncated)

    def close(self, *, cut: bool) -> tuple[str, bool]:
        """Give all that was said, up to where it loops if that is not the beginning, and whether its end may be broken.

        Args:
            cut: whether the model was stopped before it had said all.
        """
        if not self.finished:
            self.take("", last=True)
        looped = self._loop.begins_at is not None
        cut = looped or (cut and not self._paragraph.ended) or self._full
        text = self.shown[: self._loop.begins_at].rstrip()
        return ("" if looped and len(text) < MIN_PROMPT_CHARS else text), cut


class _Marks:
    """Takes thoughts, closed or not, fences and bold marks out."""

    def __init__(self) -> None:
        self._held = ""
        self.thinking = False
        self.thought = False

    def take(self, piece: str, last: bool) -> tuple[str, bool]:
        text, kept, voided = self._held + piece, "", False
        begin = 0
        end = len(text)
        for mark in MARK.finditer(text):
            if not self.thinking:
                kept += text[begin : mark.start()]
            begin = mark.end()
            if mark["fence"] and begin == len(text) and not last:
                begin = end = mark.start()  # Its language may go on.
            elif mark["fence"] and not self.thinking:
                kept += "\n\n"
            elif mark["end"] is not None:
                self.thought = True
                if mark["end"] and not self.thinking:
                    # The model's template had opened it.
                    kept, voided = "", True
                self.thinking = not mark["end"]
        if not last and end == len(text) and (perhaps := PERHAPS_MARK.search(text, begin)):
            end = perhaps.start()
        self._held = text[end:]
        return kept if self.thinking else kept + text[begin:end], voided


class _Head:
    """Holds the beginning back until it is known what of it is lead-in; takes that and marks of quotation away."""

    def __init__(self) -> None:
        self._held: str | None = ""
        self._closing = ""
        self._perhaps_closing = ""

    def take(self, text: str, last: bool) -> str:
        if self._held is not None:
            for at, char in enumerate(text):
                self._held += char
                while lead_in := LEAD_IN.match(self._held):
                    self._held = self._held[lead_in.end() :]
                enough = HELD_LEAD_IN_CHARS if LEAD_IN_BEGINS.match(self._held) else HELD_CHARS
                if len(self._held) >= enough:
                    text = self._held + text[at + 1 :]
                    break
            else:
                if not last:
                    return ""
                text = self._held
            self._held = None
            closing = QUOTES.get(text[:1], "")
            if closing and closing not in text.rstrip()[1 : HELD_CHARS - 1].rstrip(closing if last else ""):
                text, self._closing = text[1:], closing
        return self._unquoted(text, last) if self._closing else text

    def _unquoted(self, text: str, last: bool) -> str:
        text = self._perhaps_closing + text
        self._perhaps_closing = ""
        if not last and text.endswith(self._closing):
            self._perhaps_closing, text = self._closing, text[: -len(self._closing)]
        if found := re.search(rf"{re.escape(self._closing)}(?!\w)", text):
            self._closing = ""
            text = text[: found.start()] + text[found.end() :]
        return text


class _Paragraph:
    """Joins its lines, and ends where a blank line follows it."""

    def __init__(self) -> None:
        self.ended = False
        self._chars = 0
        self._gap = ""

    def take(self, text: str) -> str:
        kept = ""
        for part in re.findall(r"\s+|\S+", text):
            if part.isspace():
                self._gap = "\n" * min((self._gap + part).count("\n"), 2) or " "
                self.ended = self.ended or (self._gap.count("\n") > 1 and self._chars >= MIN_PROMPT_CHARS)
            elif not self.ended:
                kept += f" {part}" if self._gap and self._chars else part
                self._chars += len(part) + bool(self._gap)
                self._gap = ""
        return kept


class _Sentences:
    """Leaves out what was said before: a sentence is held back while it reads like an earlier one."""

    def __init__(self) -> None:
        self._earlier: set[str] = set()
        self._current = ""
        self._given = 0

    def take(self, text: str, last: bool) -> str:
        self._current += text
        kept = ""
        while end := SENTENCE_END.search(self._current):
            said = _words(self._current[: end.end()])
            if self._given or said not in self._earlier:
                kept += self._current[self._given : end.end()]
            self._earlier.add(said)
            self._current, self._given = self._current[end.end() :], 0
        if self._given or not self._repeats(_words(self._current), last):
            kept += self._current[self._given :]
            self._given = len(self._current)
        return kept

    def _repeats(self, begun: str, last: bool) -> bool:
        return any(said.startswith(begun) for said in self._earlier) and (not last or bool(begun))


class _Loop:
    """Finds where a text begins to say the same again and again."""

    def __init__(self) -> None:
        self.begins_at: int | None = None
        """Where what is repeated is said for the second time."""

        self._seen_chars = 0
        self._recent: list[tuple[str, int]] = []
        self._said_at: dict[tuple[str, ...], list[int]] = {}

    def look_at(self, text: str, last: bool) -> None:
        for unit in UNIT.finditer(text, self._seen_chars):
            if self.begins_at is not None or (unit.end() == len(text) and not last):
                return
            self._seen_chars = unit.end()
            self._recent = [*self._recent[1 - LOOP_CHARACTERS :], (unit[0].casefold(), unit.start())]
            length = LOOP_CHARACTERS if "\u3040" <= unit[0] <= "\u9fff" else LOOP_WORDS
            row = self._recent[-length:]
            places = self._said_at.setdefault(tuple(said for said, _ in row), [])
            if len(row) == length:
                places.append(row[0][1])
            if len(places) >= LOOP_TIMES:
                self.begins_at = places[1]


def _words(sentence: str) -> str:
    return " ".join(UNIT.findall(sentence.casefold()))


def _to_last_end(text: str, cut: bool) -> str:
    end = max((found.end() for found in LAST_END.finditer(text)), default=0)
    if text.endswith(ANNOUNCES):
        return text[:end]
    if end >= MIN_PROMPT_CHARS or (end and end == len(text)):
        return text[:end]
    if not cut or len(text) < MIN_PROMPT_CHARS:
        return text
    end = max((found.start() for found in PHRASE_END.finditer(text)), default=0)
    return text[:end] if end >= MIN_PROMPT_CHARS else text.rpartition(" ")[0] or text
