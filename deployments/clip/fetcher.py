"""Keeps trying until the weights are there, and says at any moment how far it is."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

from deployments.clip.download import DownloadProgress, fetch_weights
from deployments.clip.weights import WeightsUnavailable, find_weights

logger = logging.getLogger("image_analyzer.weights")

LOG_STEP_PERCENT = 10


class WeightsFetcher:
    """Fetches one model's weights in a worker thread; a new instance for each model.

    The wait between attempts starts at `retry_first_s`, doubles up to `retry_max_s`, and starts over after an
    attempt that brought bytes: a line that breaks often still gets on.

    Args:
        model: a folder, or a name on the hub.
        retry_first_s: seconds between the first failure and the next attempt.
        retry_max_s: the longest wait, in seconds.
        cache_dir: the hub cache; huggingface_hub's own when None.
        endpoint: the hub's address; huggingface_hub's own (`HF_ENDPOINT`) when None.
        wait: waits that many seconds.
    """

    def __init__(
        self,
        model: str,
        *,
        retry_first_s: float,
        retry_max_s: float,
        cache_dir: Path | None = None,
        endpoint: str | None = None,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.model = model
        self.attempts = 0
        self.failure: WeightsUnavailable | None = None
        self.progress: DownloadProgress | None = None
        self._retry_first_s = retry_first_s
        self._retry_max_s = retry_max_s
        self._cache_dir = cache_dir
        self._endpoint = endpoint
        self._wait = wait
        self._logged_percent = 0

    @property
    def percent(self) -> int | None:
        """How much has arrived, 0 to 100; None before the hub has told the size."""
        return self.progress.percent if self.progress is not None else None

    def find(self) -> Path | None:
        """Find a complete local copy; blocking, no network. Raises as `find_weights` does."""
        return find_weights(self.model, self._cache_dir)

    async def run(self) -> Path:
        """Try until the weights are there; the folder to load from.

        Cancelling returns at once; the worker thread ends when the next bytes arrive, and keeps what has arrived.

        Raises:
            WeightsUnavailable: permanently; trying again cannot help.
        """
        logger.info("Fetching the weights of '%s'.", self.model)
        retry_s = self._retry_first_s
        while True:
            before = self.progress
            try:
                folder = await self._attempt()
            except WeightsUnavailable as failure:
                self.failure = failure
                if failure.permanent:
                    logger.error("%s", failure)
                    raise
            else:
                self.failure = None
                logger.info("The weights of '%s' are in %s.", self.model, folder)
                return folder
            if self.progress != before:
                retry_s = self._retry_first_s
            logger.warning("%s Next attempt in %.0f s.", self.failure, retry_s)
            await self._wait(retry_s)
            retry_s = min(2 * retry_s, self._retry_max_s)

    async def _attempt(self) -> Path:
        self.attempts += 1
        stop = threading.Event()
        try:
            return await asyncio.to_thread(
                fetch_weights,
                self.model,
                self._note,
                cache_dir=self._cache_dir,
                endpoint=self._endpoint,
                stop=stop,
            )
        finally:
            stop.set()

    def _note(self, progress: DownloadProgress) -> None:
        self.failure = None
        self.progress = progress
        step = progress.percent - progress.percent % LOG_STEP_PERCENT
        if step > self._logged_percent:
            self._logged_percent = step
            logger.info("The weights of '%s': %d %% of %d MB.", self.model, step, progress.total_bytes // 1_000_000)
