"""What the composer can say: every language's words for labels and colours, and the sentences that they stand in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import yaml

from deployments.types import Language

WORDING_FILE = Path(__file__).with_name("wording.yaml")


class Wording:
    """One language's words, read once.

    Args:
        words: section → name → what is said.
    """

    def __init__(self, words: Mapping[str, Mapping[str, str]]) -> None:
        self._words = words
        joints = words["joints"]
        self.sentence_end, self.between_sentences = joints["sentence end"], joints["between sentences"]

    def knows(self, section: str, name: str) -> bool:
        """Tell whether there are words of this language for a label or a colour."""
        return name in self._words[section]

    def words(self, section: str, names: Sequence[str]) -> list[str]:
        """Give what each name is called; one that has no words here is called by itself."""
        known = self._words[section]
        return [known[name] if name in known else self.sentence(f"own {section}", label=name) for name in names]

    def sentence(self, name: str, **parts: str) -> str:
        """Fill a sentence's places; what is put in stays as it is, braces too. Without its end: `sentence_end`."""
        return self._words["sentences"][name].format(**parts)

    def things(self, words: Sequence[str]) -> str:
        """List nouns."""
        return self._listed(words, "between things", "last thing")

    def qualities(self, words: Sequence[str]) -> str:
        """List adjectives."""
        return self._listed(words, "between qualities", "last quality")

    def phrases(self, words: Sequence[str]) -> str:
        """List what follows the picture: "seen in close-up", "with leading lines"."""
        return self._listed(words, "between phrases", "last phrase")

    def _listed(self, words: Sequence[str], between: str, last: str) -> str:
        joints = self._words["joints"]
        if len(words) < 2:
            return "".join(words)
        return f"{joints[between].join(words[:-1])}{joints[last]}{words[-1]}"


def load_wordings(path: Path = WORDING_FILE) -> Mapping[Language, Wording]:
    """Read the file of all languages; one that lacks a phrase is a KeyError, as the file comes with the code."""
    content: dict[str, dict[str, dict[str, str]]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {
        language: Wording(
            {section: {name: said[language] for name, said in names.items()} for section, names in content.items()}
        )
        for language in get_args(Language)
    }


WORDINGS = load_wordings()
