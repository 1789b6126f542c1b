"""Has a vocabulary embedded in the background, and hands over who names tags with it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path

from huggingface_hub import constants

from deployments.clip.host_memory import trim_heap
from deployments.clip.settings import ClipSettings
from deployments.clip.vocabulary.phrases import Vocabulary, read_phrases
from deployments.clip.vocabulary.store import Stopped, TextEmbedder, stored_rows
from deployments.clip.vocabulary.tagger import VocabularyTagger

REFERENCES = Path(__file__).with_name("references.txt")

Install = Callable[[VocabularyTagger], Awaitable[None]]
"""Takes who names tags from now on."""

logger = logging.getLogger("image_analyzer.clip")


class Naming:
    """One vocabulary, embedded with one model in the background. From another thread `tagger` runs, all else does not.

    Args:
        settings: cache folder, templates, threshold; and how long to wait before a new try.
        vocabulary: to be embedded.
        embedder: of the model that reads the pictures.
        install: called once, when all is there.
        wait: sleeps between tries, in seconds.
    """

    def __init__(
        self,
        settings: ClipSettings,
        vocabulary: Vocabulary,
        embedder: TextEmbedder,
        install: Install,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings, self._vocabulary = settings, vocabulary
        self._embedder, self._install, self._wait = embedder, install, wait
        self._stopped = threading.Event()
        self._embedded = 0
        self._failure = ""
        self._task = asyncio.create_task(self._run())

    def fact(self) -> str:
        """Say in a few words how far it is: for people."""
        if self._task.done():
            return f"{len(self._vocabulary)} phrases"
        return self._failure or f"{self._embedded} of {len(self._vocabulary)} phrases embedded"

    async def close(self) -> None:
        """Give up what is not done."""
        self._stopped.set()
        self._embedder.interrupt()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                tagger = await asyncio.to_thread(self._tagger)
            except Stopped:
                return
            except Exception as error:
                self._failure = f"no tags: {error}; tried again every {self._settings.vocabulary_retry_s:.0f} s"
                logger.exception("The vocabulary could not be embedded.")
                await self._wait(self._settings.vocabulary_retry_s)
                self._failure = ""
            else:
                await self._install(tagger)
                logger.info("Tags are named from %d phrases.", len(self._vocabulary))
                return

    def _tagger(self) -> VocabularyTagger:
        settings = self._settings
        try:
            rows = stored_rows(
                settings.vocabulary_cache or Path(constants.HF_HOME) / "image-analyzer",
                references().worded(settings.tag_templates),
                self._vocabulary.worded(settings.tag_templates),
                self._embedder,
                self._note,
                self._stopped,
            )
        except OSError:
            if self._stopped.is_set():
                raise Stopped from None
            raise
        finally:
            self._embedder.close()
        tagger = VocabularyTagger(self._vocabulary, rows, threshold=settings.tag_threshold, alike=settings.tag_alike)
        trim_heap()
        return tagger

    def _note(self, phrases: int) -> None:
        self._embedded = phrases


@cache
def references() -> Vocabulary:
    """Give what every phrase is compared with."""
    return Vocabulary.of({"references": read_phrases(REFERENCES)})
