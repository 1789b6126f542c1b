"""Which tags a picture gets, in what order, and what their scores mean."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from deployments.clip.vocabulary.phrases import Vocabulary
from deployments.clip.vocabulary.store import stored_rows
from deployments.clip.vocabulary.tagger import SLAB_PHRASES, VocabularyTagger, deviation_of, same_thing, score
from deployments.types import Tag, Wanted
from tests.support.fake_embedder import FEATURES, FakeEmbedder, unit, vector_of
from tests.support.plain_ranking import plain_deviations

Vector = NDArray[np.float32]
REFERENCES = [(f"reference {number}",) for number in range(200)]
MANY = {"objects": [f"thing{number}x" for number in range(3000)], "light": [f"light{number}x" for number in range(500)]}


def tagger(
    folder: Path, content: Mapping[str, Sequence[str]], *, threshold: float = 0, alike: float = 1
) -> VocabularyTagger:
    vocabulary = Vocabulary.of(content)
    worded = vocabulary.worded(["{phrase}"])
    rows = stored_rows(folder, REFERENCES, worded, FakeEmbedder(), lambda done: None, threading.Event())
    return VocabularyTagger(vocabulary, rows, threshold=threshold, alike=alike)


def picture_of(*phrases: str, strength: float = 1, seed: int = 0) -> Vector:
    """Give the features of a picture of these: it leans elsewhere than texts, as CLIP's pictures do."""
    content = np.sum([vector_of(phrase) for phrase in phrases] or [np.zeros(FEATURES, np.float32)], axis=0)
    noise = np.random.default_rng(seed).standard_normal(FEATURES) / FEATURES**0.5
    gap = np.zeros(FEATURES)
    gap[-1] = 2
    return unit((strength * content + noise + gap).astype(np.float32))


def by_plain_numpy(picture: Vector, content: Mapping[str, Sequence[str]], groups: Sequence[str]) -> list[str]:
    phrases = [phrase for group in groups for phrase in content[group]]
    references = np.stack([vector_of(text) for (text,) in REFERENCES])
    deviations = plain_deviations(picture, references, np.stack([vector_of(phrase) for phrase in phrases]))
    return [phrases[place] for place in np.argsort(-deviations)]


@pytest.mark.parametrize("groups", [(), ("light",), ("objects", "light"), ("light", "nothing")])
def test_the_ranking_is_plain_numpys(groups: tuple[str, ...], tmp_path: Path) -> None:
    subject = tagger(tmp_path, MANY)
    pictures = [picture_of("thing7x", "light3x", seed=seed) for seed in range(3)]
    named = subject.tags(np.stack(pictures), [Wanted(100, groups), Wanted(0), Wanted(30, groups)])
    among = [group for group in MANY if group in groups or not groups]
    assert [[tag.value for tag in tags] for tags in named] == [
        by_plain_numpy(pictures[0], MANY, among)[:100],
        [],
        by_plain_numpy(pictures[2], MANY, among)[:30],
    ]
    assert all(tag.value in MANY[tag.group] for tags in named for tag in tags)
    scores = [tag.score for tag in named[0]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


def test_more_phrases_than_one_thread_multiplies_are_ranked_alike(tmp_path: Path) -> None:
    many = {"objects": [f"thing{number}x" for number in range(SLAB_PHRASES + 10)]}
    picture = picture_of("thing7x")
    (named,) = tagger(tmp_path, many).tags(picture[None], [Wanted(10)])
    assert [tag.value for tag in named] == by_plain_numpy(picture, many, ["objects"])[:10]


def test_what_is_in_the_picture_is_sure_and_of_a_picture_of_nothing_nothing_is(tmp_path: Path) -> None:
    subject = tagger(tmp_path, MANY, threshold=0.25)
    strong, faint = (
        [subject.tags(picture_of("thing7x", strength=strength, seed=seed)[None], [Wanted(10)])[0] for seed in range(20)]
        for strength in (2, 0)
    )
    assert all(tags[0].value == "thing7x" and tags[0].score > 0.9 for tags in strong)
    assert np.mean([len(tags) for tags in faint]) < 3
    assert all(tag.score >= 0.25 for tags in faint for tag in tags)


def test_a_score_depends_on_the_picture_and_the_phrase_alone(tmp_path: Path) -> None:
    picture = picture_of("thing7x")
    alone = tagger(tmp_path, {"objects": ["thing7x"]})
    (of_many,) = tagger(tmp_path, MANY).tags(picture[None], [Wanted(1)])
    (of_one,) = alone.tags(picture[None], [Wanted(1, ("objects",))])
    assert of_many[0].value == of_one[0].value
    assert of_many[0].score == pytest.approx(of_one[0].score, abs=1e-4)


def test_scores_rise_with_the_deviation_and_mean_what_the_documents_say() -> None:
    deviations = np.linspace(-2, 8, 50)
    scores = [score(deviation) for deviation in deviations]
    assert scores == sorted(scores)
    assert score(-math.inf) == pytest.approx(1 / 10_001)
    for wanted in (0.01, 0.25, 0.5, 0.99):
        assert score(deviation_of(wanted)) == pytest.approx(wanted)
    assert deviation_of(0) == -math.inf
    # Of 10,000 normally distributed cosines three come as close by chance as one of score 0.25.
    drawn = np.random.default_rng(0).standard_normal((500, 10_000))
    assert (drawn >= deviation_of(0.25)).sum(axis=1).mean() == pytest.approx(3, abs=0.3)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("cup", "a cup", True),
        ("cup", "coffee cup", True),
        ("Cups", "coffee cup", True),
        ("cup of coffee", "coffee cup", True),
        ("tea cup", "coffee cup", False),
        ("glass", "grass", False),
        ("the", "cup", False),
        ("杯", "a cup", False),
    ],
)
def test_words_tell_what_is_the_same_thing(one: str, other: str, same: bool) -> None:
    assert same_thing(one, other) is same_thing(other, one) is same


def test_near_duplicates_are_named_once_by_the_surest(tmp_path: Path) -> None:
    content = {"objects": ["cup", "coffee cup", "saucer", *MANY["objects"]], "food": ["a cup", "coffee"]}
    picture = picture_of("cup", "cup", "coffee cup", "a cup", "saucer", strength=2)
    (named,) = tagger(tmp_path, content).tags(picture[None], [Wanted(20)])
    assert len(named) == 20
    assert [tag.value for tag in named if "cup" in tag.value] == ["cup"]
    assert "saucer" in [tag.value for tag in named]


def test_phrases_whose_embeddings_are_alike_are_one_too(tmp_path: Path) -> None:
    picture = picture_of("thing7x", "thing9x", strength=2)
    (apart,) = tagger(tmp_path, MANY).tags(picture[None], [Wanted(50)])
    (folded,) = tagger(tmp_path, MANY, alike=0.15).tags(picture[None], [Wanted(50)])
    vectors = unit(
        np.stack([vector_of(tag.value) for tag in folded]) - np.mean([vector_of(t) for (t,) in REFERENCES], axis=0)
    )
    others = vectors @ vectors.T - np.eye(len(folded))
    assert others.max() <= 0.15
    assert set(apart) != set(folded)
    assert folded[0] == Tag(*(getattr(apart[0], name) for name in ("value", "group", "score")))
