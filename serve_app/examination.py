"""One upload on its way through decoder and model, for everybody who sent the same bytes meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context

from serve_app.examiner import Examiner
from serve_app.view import View


class Examination:
    """Begins at once; an error goes to all who wait, and when the last of them has left it is cancelled.

    Args:
        examiner: does the work.
        upload: the bytes.
        ended: called with the view, or with None if there will be none.
    """

    def __init__(self, examiner: Examiner, upload: bytes, ended: Callable[[View | None], None]) -> None:
        self._examiner = examiner
        self._waiting = 0
        self._stages_ms: dict[str, float] = {}
        self._decoded = asyncio.get_running_loop().create_future()
        # Of no request's context: Serve cancels the calls that were made in it when its caller leaves.
        self._work = asyncio.create_task(self._examine(upload), context=Context())
        self._work.add_done_callback(
            lambda work: ended(None if work.cancelled() or work.exception() is not None else work.result())
        )

    @property
    def abandoned(self) -> bool:
        """Whether everybody left before it was done."""
        return bool(self._work.cancelling())

    @property
    def stages_ms(self) -> Mapping[str, float]:
        """Milliseconds of the stages that have ended, `decode` and `analysis`."""
        return self._stages_ms

    @contextmanager
    def place(self) -> Iterator[None]:
        """Count as one who waits."""
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._work.cancel()

    async def decoded(self) -> None:
        """Return when the upload is known to be a picture.

        Raises:
            UnreadablePicture, FormatNotAccepted, TooManyPixels: it is none that we take.
        """
        await asyncio.wait({self._decoded, self._work}, return_when=asyncio.FIRST_COMPLETED)
        if not self._decoded.done():
            self._work.result()

    async def view(self) -> View:
        """Give what was found; raises whatever kept the deployment from answering."""
        return await asyncio.shield(self._work)

    async def _examine(self, upload: bytes) -> View:
        clock = self._examiner.clock
        started_s = clock()
        picture = await self._examiner.decode(upload)
        decoded_s = clock()
        self._stages_ms["decode"] = (decoded_s - started_s) * 1000
        self._decoded.set_result(None)
        reading = await self._examiner.read(picture)
        self._stages_ms["analysis"] = (clock() - decoded_s) * 1000
        return View(reading, picture.palette)
