"""From an upload to what is known of it: decoded in a thread, read by the CLIP deployment."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Protocol

from deployments.errors import DeadlinePassed
from deployments.types import Classification, ComponentStatus, ModelVersion, Pixels
from serve_app.edition_check import EditionCheck
from serve_app.images import Picture, read_picture
from serve_app.settings import ImageSettings, Settings


class Reader(Protocol):
    """The picture-reading deployment, as the ingress sees it."""

    async def read(self, picture: Pixels) -> Classification:
        """Analyse one picture."""
        ...

    async def model_version(self) -> ModelVersion:
        """Tell which vision model and label set answer now."""
        ...

    async def status(self) -> ComponentStatus:
        """Tell how the deployment stands now."""
        ...


class Examiner:
    """Decodes uploads and has them read.

    Args:
        reader: the CLIP deployment.
        settings: the whole service's.
        clock: seconds, monotonic.
        decode: `read_picture`, or what stands in for it in tests.
    """

    def __init__(
        self,
        reader: Reader,
        settings: Settings,
        clock: Callable[[], float] = time.perf_counter,
        decode: Callable[[bytes, ImageSettings, int], Picture] = read_picture,
    ) -> None:
        self.clock = clock
        self._decode = decode
        self._reader = reader
        self._settings = settings
        self._threads = ThreadPoolExecutor(settings.image.decode_threads, thread_name_prefix="decode")
        self._edition_check = EditionCheck(self._ask_edition)
        self._input_size_px: int | None = None

    async def digest(self, upload: bytes) -> bytes:
        """Give the SHA-256 of an upload, in a thread: 20 MB would hold up every other request."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, _sha256, upload)

    async def decode(self, upload: bytes) -> Picture:
        """Decode an upload, in a thread, at the size that the model wanted when it was last heard of.

        Raises:
            UnreadablePicture, FormatNotAccepted, TooManyPixels: see `read_picture`.
        """
        input_size_px = self._input_size_px or (await self.model_version()).input_size_px
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, self._decode, upload, self._settings.image, input_size_px
        )

    async def read(self, picture: Picture) -> Classification:
        """Have a picture read; takes as long as it takes."""
        reading = await self._reader.read(picture.pixels)
        self._input_size_px = reading.model_version.input_size_px
        return reading

    async def model_version(self) -> ModelVersion:
        """Tell the version that answers now: the question is asked after this call.

        Raises:
            DeadlinePassed: it took longer than `limits.analysis_timeout_s`.
        """
        async with self.deadline():
            version = await self._edition_check.current()
        self._input_size_px = version.input_size_px
        return version

    @asynccontextmanager
    async def deadline(self) -> AsyncIterator[None]:
        """Hold what is awaited inside to `limits.analysis_timeout_s`.

        Raises:
            DeadlinePassed: it took longer.
        """
        limit_s = self._settings.limits.analysis_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                yield
        except TimeoutError as error:
            raise DeadlinePassed(
                f"The analysis took longer than {limit_s:g} s: try again, or raise limits.analysis_timeout_s."
            ) from error

    async def _ask_edition(self) -> ModelVersion:
        async with self.deadline():
            return await self._reader.model_version()


def _sha256(upload: bytes) -> bytes:
    return hashlib.sha256(upload).digest()
