"""A vocabulary is embedded in the background, tells how far it is, and is tried again where it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from deployments.clip.settings import ClipSettings
from deployments.clip.vocabulary.naming import Naming
from deployments.clip.vocabulary.phrases import Vocabulary
from deployments.clip.vocabulary.tagger import VocabularyTagger
from tests.support.fake_embedder import FakeEmbedder

VOCABULARY = Vocabulary.of({"things": [f"thing {number}" for number in range(600)]})


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what it waits for happens in a thread
            await asyncio.sleep(0.01)


class Taken(list[VocabularyTagger]):
    async def take(self, tagger: VocabularyTagger) -> None:
        self.append(tagger)


async def test_it_tells_how_far_it_is_and_hands_over_the_tagger(tmp_path: Path) -> None:
    embedder, taken = FakeEmbedder(), Taken()
    embedder.gate.clear()
    naming = Naming(ClipSettings(vocabulary_cache=tmp_path), VOCABULARY, embedder, taken.take)
    await until(lambda: naming.fact() == "0 of 600 phrases embedded")
    assert taken == []
    embedder.gate.set()
    await until(lambda: taken)
    await until(lambda: naming.fact() == "600 phrases")
    assert taken[0].groups == ("things",)
    await naming.close()


async def test_where_it_fails_it_says_why_and_tries_again(tmp_path: Path) -> None:
    embedder, taken, waited_s = FakeEmbedder(error=OSError("the disk is full")), Taken(), list[float]()
    facts: list[str] = []

    async def wait(seconds: float) -> None:
        waited_s.append(seconds)
        facts.append(naming.fact())
        embedder.error = None

    naming = Naming(ClipSettings(vocabulary_cache=tmp_path), VOCABULARY, embedder, taken.take, wait)
    await until(lambda: taken)
    assert waited_s == [300]
    assert facts == ["no tags: the disk is full; tried again every 300 s"]
    await naming.close()


async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    naming = Naming(ClipSettings(vocabulary_cache=tmp_path / "file"), VOCABULARY, FakeEmbedder(), Taken().take)
    await until(lambda: "no tags" in naming.fact())
    assert str(tmp_path / "file") in naming.fact()
    await naming.close()


async def test_closing_ends_what_is_under_way(tmp_path: Path) -> None:
    embedder, taken = FakeEmbedder(), Taken()
    embedder.gate.clear()
    naming = Naming(ClipSettings(vocabulary_cache=tmp_path), VOCABULARY, embedder, taken.take)
    await until(lambda: list(tmp_path.glob("*/*.partial")))
    await naming.close()
    assert embedder.interrupted
    await until(lambda: not list(tmp_path.glob("*/*.partial")))
    assert taken == []


def test_a_template_without_a_place_for_the_phrase_is_refused() -> None:
    with pytest.raises(ValueError, match="the template has no"):
        ClipSettings(tag_templates=("a photo",))
