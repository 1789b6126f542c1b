"""The same bytes again: what was seen in them is remembered, and what is being looked at is looked at once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import ExitStack

from cachetools import TTLCache

from serve_app.examination import Examination
from serve_app.examiner import Examiner
from serve_app.settings import CacheSettings
from serve_app.view import View


class ViewCache:
    """Views by the bytes they are of, within bounds of number and age.

    No view of an old label set is ever given away: its version is compared with the one that the CLIP deployment names
    in answer to a question asked after the request came. Views with warnings are not kept: the warning would go stale.

    Args:
        examiner: makes the views that are missing.
        settings: the bounds.
        clock: seconds, monotonic.
    """

    def __init__(self, examiner: Examiner, settings: CacheSettings, clock: Callable[[], float]) -> None:
        self._examiner = examiner
        self._max_entries = settings.max_entries
        self._views: TTLCache[Hashable, View] = TTLCache(settings.max_entries, settings.max_age_s, timer=clock)
        self._in_flight: dict[Hashable, Examination] = {}

    def look(self, upload: bytes) -> Look:
        """Begin nothing yet: see `Look`."""
        return Look(self, self._examiner, upload)

    async def key(self, upload: bytes) -> Hashable:
        """Give what equals the key of the same bytes alone; of no others at all where nothing is to be remembered."""
        return await self._examiner.digest(upload) if self._max_entries else object()

    async def remembered(self, key: Hashable) -> View | None:
        """Give the view of these bytes, if there is one that still holds."""
        view = self._views.get(key)
        if view is not None and view.reading.model_version != await self._examiner.model_version():
            return None
        return view

    def examination(self, key: Hashable, upload: bytes) -> tuple[Examination, bool]:
        """Give the examination that these bytes are in, or a new one, and whether it was there."""
        examination = self._in_flight.get(key)
        if examination is not None and not examination.abandoned:
            return examination, True

        def ended(view: View | None) -> None:
            if self._in_flight.get(key) is begun:
                del self._in_flight[key]
            if view is not None and not view.reading.warnings and self._max_entries:
                self._views[key] = view

        begun = self._in_flight[key] = Examination(self._examiner, upload, ended)
        return begun, False


class Look:
    """One caller's way to the view of an upload: remembered, being made for others, or made for this caller.

    First `begin`, then `view`; `leave` however it ends.
    """

    _found: View | Examination

    def __init__(self, cache: ViewCache, examiner: Examiner, upload: bytes) -> None:
        self._cache = cache
        self._examiner = examiner
        self._upload = upload
        self._key: Hashable = None
        self._place = ExitStack()
        self.cached = False
        """Whether the view was not made for this caller."""
        self.stages_ms: Mapping[str, float] = {}
        """Milliseconds of the stages that ran for this caller, once there is a view: `decode` and `analysis`."""

    async def begin(self) -> None:
        """Return when the upload is known to be a picture.

        Raises:
            UnreadablePicture, FormatNotAccepted, TooManyPixels: it is none that we take.
            DeadlinePassed: it took longer than `limits.analysis_timeout_s`.
            AnalyzerError: whatever kept the CLIP deployment from naming its version.
        """
        async with self._examiner.deadline():
            self._key = await self._cache.key(self._upload)
            await self._find()

    async def view(self) -> View:
        """Give the view.

        Raises:
            DeadlinePassed: it took longer than `limits.analysis_timeout_s`, however long others have waited for it.
            AnalyzerError: whatever kept the CLIP deployment from answering.
        """
        async with self._examiner.deadline():
            while isinstance(self._found, Examination):
                view = await self._found.view()
                if not self.cached:
                    self.stages_ms = self._found.stages_ms
                    self._found = view
                elif view.reading.model_version == await self._examiner.model_version():
                    self._found = view
                else:
                    self.leave()
                    await self._find()
        # A prompt takes seconds, an upload up to 20 MB.
        self._upload = b""
        return self._found

    def leave(self) -> None:
        """Wait no longer."""
        self._place.close()

    async def _find(self) -> None:
        view = await self._cache.remembered(self._key)
        if view is not None:
            self._found, self.cached = view, True
            return
        examination, self.cached = self._cache.examination(self._key, self._upload)
        self._place.enter_context(examination.place())
        self._found = examination
        await examination.decoded()
