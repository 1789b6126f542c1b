"""Names a picture's tags: the phrases whose embeddings are closest to it, by more than chance would explain."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from deployments.clip.vocabulary.phrases import Vocabulary
from deployments.clip.vocabulary.store import Rows
from deployments.types import Tag, Wanted

CHANCE_PHRASES = 10_000
"""Phrases that have nothing to do with a picture, and among which chance is counted: as many as a large vocabulary has.
One number for all, so that a tag's score depends on the picture and the phrase alone."""
FIRST_LOOKED_AT = 64
"""Phrases beside those asked for that are looked at at first, since near-duplicates fall away."""
SLAB_PHRASES = 25_000
"""Multiplied by one thread: 50 MB, of which more is shared between cores."""
ARTICLES = frozenset({"a", "an", "the", "of", "with", "and", "in", "on"})
"""Words that tell no thing from another."""

_WORDS = re.compile(r"[\w']+")

Vectors = NDArray[np.float32]


class VocabularyTagger:
    """Ranks a vocabulary for one picture after another; implements `Tagger`. Holds nothing that changes.

    Args:
        vocabulary: the phrases.
        rows: first those of the references, then the vocabulary's, as `stored_rows` gives them.
        threshold: the score below which nothing is named.
        alike: the cosine of two phrases, seen from the middle of the references, above which they are one.
    """

    def __init__(self, vocabulary: Vocabulary, rows: Rows, *, threshold: float, alike: float) -> None:
        self.groups = tuple(vocabulary.groups)
        self._spans = dict(vocabulary.spans())
        self._phrases = [(name, phrase) for name, group in vocabulary.groups.items() for phrase in group.phrases]
        self._least, self._alike = deviation_of(threshold), alike
        references = len(rows) - len(self._phrases)
        vectors: Vectors = np.asarray(rows["vector"])
        self._references, self._vectors = vectors[:references].copy(), vectors[references:]
        self._middle: Vectors = self._references.mean(axis=0)
        usual: Vectors = rows["mean"][:references]
        self._usual: Vectors = usual - usual.mean()
        # The least squares' slope is the product with this.
        self._slope_of: Vectors = self._usual / max(float(self._usual @ self._usual), np.finfo(np.float32).tiny)
        self._excess: Vectors = rows["mean"][references:] - usual.mean()
        # OpenBLAS' own threads wait busily for each other: 40 ms for 1 where cores are shared. Ours do not.
        ThreadpoolController().select(internal_api="openblas").limit(limits=1)
        self._map = ThreadPoolExecutor().map if len(self._phrases) > SLAB_PHRASES else map
        self._width: Vectors = rows["spread"][references:] / rows["spread"][:references].mean()

    def tags(self, features: Vectors, wanted: Sequence[Wanted]) -> list[tuple[Tag, ...]]:
        """Name what is in each picture, surest first, of near-duplicates the surest.

        Args:
            features: the pictures' unit vectors: float32, (pictures, features).
            wanted: how many of each, and of which groups; one that there is not holds no phrase.
        """
        asking = [picture for picture, one in enumerate(wanted) if one.tags]
        named: list[tuple[Tag, ...]] = [()] * len(wanted)
        if asking:
            for picture, deviations in zip(asking, self._deviations(features[asking]), strict=True):
                named[picture] = self._best(deviations, wanted[picture])
        return named

    def _deviations(self, features: Vectors) -> Vectors:
        """Give by how many standard deviations each phrase is closer to a picture than one that is not in it."""
        usual = features @ self._references.T
        middle, slope = usual.mean(axis=1, keepdims=True), (usual @ self._slope_of)[:, None]
        spread = (usual - middle - slope * self._usual).std(axis=1, keepdims=True)
        spread = np.maximum(spread, np.finfo(np.float32).tiny)
        deviations = np.empty((len(features), len(self._phrases)), np.float32)

        def fill(slab: slice) -> None:
            part = deviations[:, slab]
            np.matmul(features, self._vectors[slab].T, out=part)
            part -= middle
            part -= slope * self._excess[slab]
            part /= spread
            part /= self._width[slab]

        starts = range(0, len(self._phrases), SLAB_PHRASES)
        list(self._map(fill, [slice(start, start + SLAB_PHRASES) for start in starts]))
        return deviations

    def _best(self, deviations: Vectors, wanted: Wanted) -> tuple[Tag, ...]:
        sure = np.flatnonzero(deviations >= self._least)
        if wanted.tag_groups:
            sure = np.concatenate(
                [sure[:0], *(self._within(sure, name) for name in self.groups if name in wanted.tag_groups)]
            )
        looked_at = wanted.tags + FIRST_LOOKED_AT
        while True:
            best = sure[_largest(deviations[sure], looked_at)]
            named = self._distinct(best, deviations[best], wanted.tags)
            if len(named) == wanted.tags or len(best) == len(sure):
                return named
            looked_at *= 4

    def _within(self, places: NDArray[np.int64], group: str) -> NDArray[np.int64]:
        span = self._spans.get(group, slice(0, 0))
        return places[np.searchsorted(places, span.start) : np.searchsorted(places, span.stop)]

    def _distinct(self, places: NDArray[np.int64], deviations: Vectors, count: int) -> tuple[Tag, ...]:
        """Take the first of these, but for what is one with another before it."""
        vectors = self._vectors[places] - self._middle
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        alike = vectors @ vectors.T > self._alike
        kept: list[int] = []
        tags: list[Tag] = []
        for row, place in enumerate(places):
            group, phrase = self._phrases[place]
            if any(alike[row, other] or same_thing(phrase, tag.value) for other, tag in zip(kept, tags, strict=True)):
                continue
            kept.append(row)
            tags.append(Tag(phrase, group, score(float(deviations[row]))))
            if len(tags) == count:
                break
        return tuple(tags)


def score(deviation: float) -> float:
    """Give the share of right ones among names this close, where one is right of `CHANCE_PHRASES`: 0 to 1.

    Of so many phrases with normally distributed cosines E come as close by chance; the one that is right stands among
    1 + E. E is what BLAST calls the E-value (Karlin and Altschul 1990).
    """
    by_chance = CHANCE_PHRASES * math.erfc(deviation / math.sqrt(2)) / 2
    return 1 / (1 + by_chance)


def deviation_of(score: float) -> float:
    """Give the deviation that has this score, 0 to less than 1."""
    by_chance = (1 / score - 1) / CHANCE_PHRASES if score else 1.0
    return -NormalDist().inv_cdf(by_chance) if by_chance < 1 else -math.inf


def same_thing(one: str, other: str) -> bool:
    """Tell whether all the words of one are in the other: "cup", "a cup", "cups" and "coffee cup"."""
    words, others = _words(one), _words(other)
    return words <= others or others <= words


@lru_cache(maxsize=4096)
def _words(phrase: str) -> frozenset[str]:
    """Give the words that tell things apart, in the singular as far as an `s` makes the plural."""
    words = [word for word in _WORDS.findall(phrase.casefold()) if word not in ARTICLES]
    singular = frozenset(word[:-1] if len(word) > 3 and word[-1] == "s" and word[-2] != "s" else word for word in words)
    return singular or frozenset((phrase,))


def _largest(values: Vectors, count: int) -> NDArray[np.int64]:
    """Give the places of the largest, largest first; of equals the first."""
    if count < len(values):
        best = np.flatnonzero(values >= np.partition(values, len(values) - count)[-count])
    else:
        best = np.arange(len(values))
    return best[np.argsort(-values[best], kind="stable")]
