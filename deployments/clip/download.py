"""Fetches a CLIP model from the hub into the hub cache, and picks up a broken-off download where it stopped.

`hf_hub_download` of huggingface_hub 2.4 does not resume between calls: it writes to a file of a random name and
deletes it on any failure, so a broken line or a restart would cost the 600 MB again. Here the bytes go to
`blobs/<digest>.incomplete` of the cache, which stays, is continued with a Range request and checked against the
digest that the hub announced; the finished file is linked into the cache's documented layout, where
huggingface_hub and transformers find it by the model's name. Session, token, endpoint, offline mode and error
kinds are huggingface_hub's own.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
from filelock import FileLock, Timeout
from huggingface_hub import constants, get_session, hf_hub_url
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

from deployments.clip.download_failures import explain
from deployments.clip.hub_files import HubFile, announced_files
from deployments.clip.weights import CONFIG_FILE, WeightsUnavailable, find_weights, require_clip

LOCK_POLL_S = 1.0
"""How often a process that waits for another's download of the same file looks at its progress."""
_HTTP_OK_NOT_PARTIAL = 200


@dataclass(frozen=True, slots=True)
class DownloadProgress:
    """Bytes that have arrived, and bytes in all, over every file that loading needs."""

    done_bytes: int
    total_bytes: int

    @property
    def percent(self) -> int:
        """Whole percent, 0 to 100; 100 only when every byte is there."""
        return 100 * self.done_bytes // self.total_bytes if self.total_bytes else 100


def fetch_weights(
    model: str,
    on_progress: Callable[[DownloadProgress], None],
    *,
    cache_dir: Path | None = None,
    endpoint: str | None = None,
    stop: threading.Event | None = None,
) -> Path:
    """Download what loading needs and the cache lacks; blocks, so call it from a worker thread.

    Args:
        model: a folder (returned as `find_weights` does) or a name on the hub.
        on_progress: called from this thread, whenever bytes have arrived.
        cache_dir: the hub cache; huggingface_hub's own when None.
        endpoint: the hub's address; huggingface_hub's own (`HF_ENDPOINT`) when None.
        stop: once set, the download ends when the next bytes arrive; what has arrived stays for the next call.

    Returns:
        The folder to load from.

    Raises:
        WeightsUnavailable: with the sentence and the remedy, for every way in which this fails.
    """
    hub = (endpoint or constants.ENDPOINT).rstrip("/")
    cache = Path(cache_dir or constants.HF_HUB_CACHE).expanduser()
    try:
        local = find_weights(model, cache)
        if local is not None:
            return local
        commit, files = announced_files(model, hub)
        return _Download(model, commit, files, hub, cache, on_progress, stop or threading.Event()).run()
    except (OSError, httpx2.RequestError) as error:
        raise explain(error, model, hub, cache) from error


class _Download:
    """One attempt at one commit of one model."""

    def __init__(
        self,
        model: str,
        commit: str,
        files: list[HubFile],
        hub: str,
        cache: Path,
        on_progress: Callable[[DownloadProgress], None],
        stop: threading.Event,
    ) -> None:
        self._model = model
        self._hub = hub
        self._commit = commit
        self._files = files
        self._total_bytes = sum(file.size_bytes for file in files)
        folder = repo_folder_name(repo_id=model, repo_type="model")
        self._repo = cache / folder
        self._snapshot = self._repo / "snapshots" / commit
        self._locks = cache / ".locks" / folder
        self._on_progress = on_progress
        self._stop = stop

    def run(self) -> Path:
        """Fetch, check and link every file; the snapshot's folder."""
        for folder in (self._repo / "blobs", self._locks):
            folder.mkdir(parents=True, exist_ok=True)
        self._require_disk_space()
        for file in self._files:
            with self._locked(file):
                self._fetch(file)
            if file.name == CONFIG_FILE:
                require_clip(self._blob(file), self._model)
        self._write_reference()
        return self._snapshot

    def _blob(self, file: HubFile) -> Path:
        return self._repo / "blobs" / file.digest

    def _partial(self, file: HubFile) -> Path:
        return self._repo / "blobs" / f"{file.digest}.incomplete"

    def _arrived_bytes(self, file: HubFile) -> int:
        for path in (self._partial(file), self._blob(file)):
            with suppress(FileNotFoundError):
                return path.stat().st_size
        return 0

    def _all_arrived_bytes(self) -> int:
        return sum(self._arrived_bytes(file) for file in self._files)

    def _report(self, done_bytes: int) -> None:
        self._on_progress(DownloadProgress(done_bytes, self._total_bytes))

    def _require_disk_space(self) -> None:
        if self._total_bytes - self._all_arrived_bytes() > shutil.disk_usage(self._repo).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @contextmanager
    def _locked(self, file: HubFile) -> Iterator[None]:
        """Hold huggingface_hub's own lock of this file, so that the replicas of a machine fetch it once."""
        lock = FileLock(self._locks / f"{file.digest}.lock")
        while not lock.is_locked:
            self._check_not_stopped()
            with suppress(Timeout):
                lock.acquire(timeout=LOCK_POLL_S)
            self._report(self._all_arrived_bytes())
        try:
            yield
        finally:
            lock.release()

    def _fetch(self, file: HubFile) -> None:
        blob, partial = self._blob(file), self._partial(file)
        if not blob.exists():
            self._append_rest(file, partial)
            if not file.is_whole(partial):
                partial.unlink()
                raise WeightsUnavailable(
                    f"{file.name} of '{self._model}' arrived damaged from the hub at {self._hub}.",
                    "It is fetched again by itself.",
                    permanent=False,
                )
            partial.replace(blob)
        self._link(blob, self._snapshot / file.name)

    def _append_rest(self, file: HubFile, partial: Path) -> None:
        arrived = self._arrived_bytes(file)
        if arrived >= file.size_bytes:
            partial.touch()
            return
        url = hf_hub_url(self._model, file.name, revision=self._commit, endpoint=self._hub)
        # A compressed answer has no ranges.
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        if arrived:
            headers["Range"] = f"bytes={arrived}-"
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
            hf_raise_for_status(response)
            if response.status_code == _HTTP_OK_NOT_PARTIAL:
                partial.unlink(missing_ok=True)
            done_bytes = self._all_arrived_bytes()
            with partial.open("ab") as sink:
                for chunk in response.iter_bytes():
                    sink.write(chunk)
                    done_bytes += len(chunk)
                    self._report(done_bytes)
                    self._check_not_stopped()

    def _check_not_stopped(self) -> None:
        if self._stop.is_set():
            raise WeightsUnavailable(f"The download of '{self._model}' was stopped.", "", permanent=False)

    @staticmethod
    def _link(blob: Path, pointer: Path) -> None:
        if pointer.exists():
            return
        pointer.parent.mkdir(parents=True, exist_ok=True)
        try:
            pointer.symlink_to(os.path.relpath(blob, pointer.parent))
        except OSError:
            shutil.copyfile(blob, pointer)

    def _write_reference(self) -> None:
        reference = self._repo / "refs" / constants.DEFAULT_REVISION
        reference.parent.mkdir(exist_ok=True)
        written = reference.with_name(f"{reference.name}.{os.getpid()}")
        written.write_text(self._commit)
        written.replace(reference)
