"""The vocabulary: groups of phrases, as an operator writes them, and the texts that CLIP is given for each."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deployments.errors import SettingsError

PLACE = "{phrase}"
"""Where a template takes the phrase. A line with it is no phrase, but a template of its group."""
MAX_PHRASES = 100_000
"""Of all groups together: 200 MB of embeddings, and 5 ms a picture (`python -m benchmarks.vocabulary`)."""
MAX_PHRASE_CHARACTERS = 100
"""CLIP reads 77 tokens, and would not see the end of what is much longer."""
MAX_TEMPLATES = 8
"""Of one group: each is one text more to embed for every phrase."""
NAMED_DUPLICATES = 3
"""How many are named of those that stand there twice."""
GROUP_NAME = re.compile(r"\w[\w-]{0,39}")
"""A word, so that a caller can name several with commas between."""


@dataclass(frozen=True, slots=True)
class Group:
    """Phrases, and what they are worded with for CLIP; without templates of its own, with the setting's."""

    phrases: tuple[str, ...]
    templates: tuple[str, ...] = ()

    @classmethod
    def of(cls, lines: Iterable[str]) -> Group:
        """Tell templates from phrases.

        Raises:
            ValueError: there is no phrase, too many of them or of templates, or one is empty, too long or twice there.
        """
        stripped = [line.strip() for line in lines]
        phrases = tuple(line for line in stripped if PLACE not in line)
        templates = tuple(line for line in stripped if PLACE in line)
        times = Counter(line.casefold() for line in stripped)
        repeated = [line for line, count in times.items() if count > 1]
        if not phrases:
            raise ValueError("there is no phrase in it")
        if len(phrases) > MAX_PHRASES:
            raise ValueError(f"it has {len(phrases)} phrases, and the whole vocabulary may have {MAX_PHRASES}")
        if len(templates) > MAX_TEMPLATES:
            raise ValueError(f"it has {len(templates)} templates, and may have {MAX_TEMPLATES}")
        if "" in times:
            raise ValueError("a phrase is empty")
        if too_long := [line for line in stripped if len(line) > MAX_PHRASE_CHARACTERS]:
            raise ValueError(f'"{too_long[0][:40]}…" is longer than {MAX_PHRASE_CHARACTERS} characters')
        if repeated:
            others = len(repeated) - NAMED_DUPLICATES
            more = f" and {others} others" if others > 0 else ""
            raise ValueError(f"named twice: {', '.join(repeated[:NAMED_DUPLICATES])}{more}")
        return cls(phrases, templates)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Group name → group, in the files' order. Immutable: who ranks with it keeps what it began with."""

    groups: Mapping[str, Group]

    @classmethod
    def of(cls, content: Mapping[str, Sequence[str]]) -> Vocabulary:
        """Check what a file or a `user_config` says; a group without lines is left out.

        Raises:
            ValueError: naming the group and what is wrong with it.
        """
        groups: dict[str, Group] = {}
        for name, lines in content.items():
            if not GROUP_NAME.fullmatch(name):
                raise ValueError(f"the group name {name!r} is no single word of at most 40 letters")
            try:
                groups |= {name: Group.of(lines)} if lines else {}
            except ValueError as error:
                raise ValueError(f"group {name}: {error}") from error
        made = cls(groups)
        if len(made) > MAX_PHRASES:
            raise ValueError(f"{len(made)} phrases in all groups together, and {MAX_PHRASES} are most")
        return made

    def changed(self, content: Mapping[str, Sequence[str]]) -> Vocabulary:
        """Put these groups in place of those of the same names, beside the others; one without lines takes it away.

        Raises:
            ValueError: as `of`.
        """
        lines = {name: (*group.phrases, *group.templates) for name, group in self.groups.items()}
        return self.of({**lines, **content})

    def __len__(self) -> int:
        return sum(len(group.phrases) for group in self.groups.values())

    def spans(self) -> Iterator[tuple[str, slice]]:
        """Yield each group's name and where its phrases stand among all."""
        start = 0
        for name, group in self.groups.items():
            yield name, slice(start, start := start + len(group.phrases))

    def worded(self, templates: Sequence[str]) -> list[tuple[str, ...]]:
        """Give the texts of each phrase, group after group: one for each of the group's templates, or of these."""
        return [
            tuple(template.replace(PLACE, phrase) for template in group.templates or templates)
            for group in self.groups.values()
            for phrase in group.phrases
        ]

    @property
    def version(self) -> str:
        """A short digest that changes whenever any phrase, template or order does."""
        content = {name: (group.phrases, group.templates) for name, group in self.groups.items()}
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


NO_PHRASES = Vocabulary({})


def load_vocabulary(folders: Iterable[Path]) -> Vocabulary:
    """Read every `*.txt` of the folders: a group is called as its file.

    Raises:
        SettingsError: a folder or file is missing, of another encoding than UTF-8, or wrong in itself; two files have
            one name.
    """
    content: dict[str, list[str]] = {}
    for folder in folders:
        files = sorted(folder.glob("*.txt"))
        if not files:
            raise SettingsError(f"The vocabulary folder {folder} is missing or holds no .txt file.")
        for file in files:
            if file.stem in content:
                raise SettingsError(f"There are two phrase files {file.name}: give that in {folder} another name.")
            content[file.stem] = read_phrases(file)
    try:
        return Vocabulary.of(content)
    except ValueError as error:
        raise SettingsError(f"The vocabulary in {', '.join(map(str, folders))}: {error}.") from error


def read_phrases(file: Path) -> list[str]:
    """Give a phrase file's lines: no comments, none empty.

    Raises:
        SettingsError: it is missing, of another encoding than UTF-8, or has no line.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SettingsError(f"Phrase file {file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"Phrase file {file} is not UTF-8: {error.reason} at byte {error.start}.") from error
    lines = [stripped for line in text.splitlines() if (stripped := line.strip()) and not stripped.startswith("#")]
    if not lines:
        raise SettingsError(f"Phrase file {file} has no phrase in it.")
    return lines
