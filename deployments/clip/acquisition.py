"""How CLIP comes to be there: found on disk or fetched, then loaded, tried again where that can help."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

from deployments.clip.weights import WeightsUnavailable
from deployments.errors import AnalyzerError, OutOfMemory

Model = TypeVar("Model", covariant=True)

logger = logging.getLogger("image_analyzer.clip")


class Shortfall(NamedTuple):
    """Why CLIP does not answer, and what to do about it: two sentences."""

    reason: str
    remedy: str


class WeightsSource(Protocol):
    """Where CLIP's weights come from; `WeightsFetcher` is the real one."""

    model: str
    failure: WeightsUnavailable | None
    """Why the last attempt failed; None before the first has, and as soon as bytes arrive again."""

    @property
    def percent(self) -> int | None:
        """How much has arrived."""
        ...

    def find(self) -> Path | None:
        """Give the folder of a complete local copy, if there is one; blocking, no network."""
        ...

    async def run(self) -> Path:
        """Give the folder of a local copy, fetching it first, however many attempts that takes."""
        ...


class Acquisition(Generic[Model]):
    """Gets hold of the model.

    Args:
        weights: where its weights come from.
        load: from a folder of weights to a model; blocking, run in a thread of its own.
        retry_s: wait before loading again where the device was out of memory, in seconds.
        wait: waits that many seconds.
    """

    def __init__(
        self,
        weights: WeightsSource,
        load: Callable[[Path], Model],
        *,
        retry_s: float,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._weights = weights
        self._load = load
        self._retry_s = retry_s
        self._wait = wait
        self._failure: Shortfall | None = None
        self._postponed = False
        self.hopeless = False
        """Nothing but a restart can help."""

    @property
    def shortfall(self) -> Shortfall:
        """Say why the model is not there now."""
        if self._failure is not None:
            return self._failure
        failure, percent = self._weights.failure, self._weights.percent
        if failure is not None:
            return Shortfall(failure.sentence, failure.remedy)
        progress = "" if percent is None else f": {percent} % so far"
        return Shortfall(
            f"The weights of '{self._weights.model}' are being downloaded{progress}.",
            "CLIP takes over by itself when they are there.",
        )

    async def at_once(self) -> Model | None:
        """Load the model if its weights are on disk; without the network."""
        try:
            folder = await asyncio.to_thread(self._weights.find)
        except Exception as error:
            self._weights_failed(error)
            return None
        return None if folder is None else await self._loaded(folder)

    async def eventually(self) -> Model | None:
        """Fetch and load the model, however long it takes; None once it is hopeless."""
        while not self.hopeless:
            if self._postponed:
                await self._wait(self._retry_s)
                self._postponed = False
            try:
                folder = await self._weights.run()
            except Exception as error:
                self._weights_failed(error)
                self.hopeless = True
                break
            model = await self._loaded(folder)
            if model is not None:
                return model
        return None

    def postpone(self, error: OutOfMemory) -> None:
        """Take note that the device was full, and that trying again later can help."""
        logger.warning("%s", error)
        self._failure = Shortfall(str(error), f"It is tried again every {self._retry_s:g} s.")
        self._postponed = True

    def give_up(self, reason: str, remedy: str) -> None:
        """Take note that the model cannot be had until the service is restarted."""
        self._failure = Shortfall(reason, remedy)
        self.hopeless = True

    async def _loaded(self, folder: Path) -> Model | None:
        if self._failure is None:
            self._failure = Shortfall("CLIP is being loaded.", "It takes over by itself.")
        try:
            return await asyncio.to_thread(self._load, folder)
        except OutOfMemory as error:
            self.postpone(error)
        except AnalyzerError as error:
            logger.exception("CLIP could not be loaded from %s.", folder)
            self.give_up(str(error), "Then restart the service.")
        except Exception as error:
            logger.exception("CLIP could not be loaded from %s.", folder)
            self.give_up(
                f"CLIP could not be loaded from {folder}: {error}.",
                "Delete that folder so that it is fetched anew, or name another model in clip.model; then restart.",
            )
        return None

    def _weights_failed(self, error: Exception) -> None:
        if isinstance(error, WeightsUnavailable):
            # Until it is permanent, the source itself tells of its failures while it tries again.
            if error.permanent:
                self.give_up(error.sentence, error.remedy)
            return
        logger.error("Looking for the weights failed.", exc_info=error)
        self.give_up(f"Looking for the weights of '{self._weights.model}' failed: {error}.", "Mend that, then restart.")
