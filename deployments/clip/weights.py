"""CLIP's weights: a model's name or folder in, a loaded model out, with progress and plain sentences on the way."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import Future
from fnmatch import fnmatch
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import yaml
from huggingface_hub import HfApi, constants, hf_hub_download, metadata_load, try_to_load_from_cache
from huggingface_hub.errors import (
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)
from huggingface_hub.utils.tqdm import tqdm

from deployments.clip.settings import ClipSettings
from deployments.errors import AnalyzerError, OutOfMemory

CONFIG_FILE = "config.json"
IMAGE_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
"""transformers reads either; folders saved by a recent `CLIPProcessor` hold only the second."""
TOKENIZER_FILES = (
    *("tokenizer.json", "vocab.json", "merges.txt"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
)
WEIGHT_SETS = (
    ("model.safetensors",),
    ("model.safetensors.index.json", "model-*-of-*.safetensors"),
    ("pytorch_model.bin",),
    ("pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin"),
)
"""The same weights in four packings, best first: safetensors runs no code and maps into memory."""
CARD_FILE = "README.md"
"""Names the licence."""
SERVED_TYPES = ("clip", "siglip")
"""`model_type` of what is served; SigLIP 2 of fixed resolution calls itself `siglip` too."""
MODEL_LIST = "docs/models.md lists some."
REFUSED_TYPES = {
    "siglip2": "a NaFlex model of SigLIP 2, for pictures of any shape: those of fixed resolution are served, such as "
    "google/siglip2-base-patch16-224",
    "*_vision_model": "a vision tower alone, which knows no texts",
    "*_text_model": "a text tower alone, which sees nothing",
}
"""`model_type` → what that is."""
REFUSED_FILES = {
    "open_clip_*": "holds a model for the library open_clip alone, and none for transformers",
    "mobileclip*.pt": "holds MobileCLIP, which transformers cannot load",
}
"""What a model without `config.json` has instead → what that says of it."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
OFFLINE_SWITCHES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
"""huggingface_hub obeys the first of them that is set."""
LOG_STEP_PERCENT = 10
ABANDONED_S = 3600
"""huggingface_hub gives each download a file of its own, and one that was killed leaves it behind for ever."""

RETRIED = "The download is tried again by itself."
REFUSAL = "Invalid credentials in Authorization header"
"""The hub's words for it; its other 401 answers stand for a name that does not exist."""

logger = logging.getLogger("image_analyzer.weights")

Model = TypeVar("Model", covariant=True)
Result = TypeVar("Result")


class WeightsUnavailable(Exception):
    """There are no weights to load.

    `sentence` says what is wrong, `remedy` what a person can do; `permanent` is true where trying again
    cannot help until a setting changes.
    """

    def __init__(self, sentence: str, remedy: str, permanent: bool = False) -> None:
        super().__init__(sentence, remedy, permanent)
        self.sentence = sentence
        self.remedy = remedy
        self.permanent = permanent

    def __str__(self) -> str:
        return f"{self.sentence} {self.remedy}"


def find_weights(model: str, cache_dir: Path | None = None) -> Path | None:
    """Find the folder of a complete local copy; never touches the network.

    Args:
        model: an existing folder, or a name on the hub.
        cache_dir: the hub cache; huggingface_hub's own when None.

    Returns:
        The folder to load from, or None when a hub model is not, or not wholly, in the cache.

    Raises:
        WeightsUnavailable: the folder lacks a file or cannot be read (not permanent: it may still be being copied), the
            name is neither a folder nor a hub name, or the model is of no family that is served.
    """
    try:
        folder = Path(model).expanduser().absolute()  # Loading is another process's, in another folder.
        if folder.is_dir():
            _require_transformers([file.name for file in folder.iterdir()], model)
            if missing := _missing_in(folder):
                sentence = f"The model folder {folder} has no {missing}."
                raise WeightsUnavailable(sentence, "Copy the missing file there, or set clip.model to another model.")
            if pointers := _pointers_in(folder):
                sentence = f"In the model folder {folder} only Git LFS pointers stand for {', '.join(pointers)}."
                raise WeightsUnavailable(sentence, f"Fetch the files themselves: git -C {folder} lfs pull")
        else:
            cached = try_to_load_from_cache(model, CONFIG_FILE, cache_dir=cache_dir)
            if not isinstance(cached, str) or _missing_in(Path(cached).parent):
                return None
            folder = Path(cached).parent
        _require_served(folder / CONFIG_FILE, model)
    except (HFValidationError, RuntimeError) as error:  # of expanduser: nobody has that name
        sentence = f"clip.model is '{model}': there is no such folder, and it is no name on a hub (owner/name)."
        raise WeightsUnavailable(sentence, "Correct clip.model.", True) from error
    except OSError as error:
        raise _explained(error, model, constants.ENDPOINT) from error
    return folder


def licence_of(folder: Path) -> str:
    """Read a model's licence from the front matter of its card; empty where that tells none."""
    try:
        told = metadata_load(folder / CARD_FILE) or {}
    except (OSError, ValueError, yaml.YAMLError):
        return ""
    licence = told.get("license_name") or told.get("license")
    return licence if isinstance(licence, str) else ""


def _require_served(config_file: Path, model: str) -> None:
    try:
        model_type = json.loads(config_file.read_text(encoding="utf-8")).get("model_type")
        kind = f"of type '{model_type}'" if model_type else f"of a type that its {CONFIG_FILE} does not tell"
        what = _said_of(model_type or "", REFUSED_TYPES) or f"{kind}, and neither CLIP nor SigLIP"
        wrong = f"'{model}' is {what}."
    except (ValueError, AttributeError) as error:
        model_type, wrong = None, f"The {CONFIG_FILE} of '{model}' is not a model's configuration ({error})."
    if model_type not in SERVED_TYPES:
        raise WeightsUnavailable(wrong, f"Set clip.model to a CLIP or SigLIP model; {MODEL_LIST}", True)


def _require_transformers(names: Collection[str], model: str) -> None:
    if CONFIG_FILE not in names and (what := next(filter(None, (_said_of(n, REFUSED_FILES) for n in names)), "")):
        raise WeightsUnavailable(
            f"'{model}' {what}.", f"Set clip.model to one that transformers loads; {MODEL_LIST}", True
        )


def _said_of(name: str, table: Mapping[str, str]) -> str:
    return next((said for pattern, said in table.items() if fnmatch(name, pattern)), "")


def _weight_files(names: Collection[str]) -> list[str]:
    """Choose the best packing of the weights that these files hold; empty when they hold none."""
    for patterns in WEIGHT_SETS:
        matches = [sorted(name for name in names if fnmatch(name, pattern)) for pattern in patterns]
        if all(matches):
            return [name for matching in matches for name in matching]
    return []


def _missing(names: Collection[str]) -> str | None:
    """Name the first kind of file that a model with these files lacks; None when it is whole."""
    if CONFIG_FILE not in names:
        return CONFIG_FILE
    if not any(name in names for name in IMAGE_PROCESSOR_FILES):
        return IMAGE_PROCESSOR_FILES[0]
    if "tokenizer.json" not in names and not {"vocab.json", "merges.txt"}.issubset(names):
        unread = "; spiece.model is not read in its place" if "spiece.model" in names else ""
        return f"tokenizer.json (or vocab.json and merges.txt{unread})"
    return None if _weight_files(names) else "model.safetensors (or pytorch_model.bin)"


def _missing_in(folder: Path) -> str | None:
    names = {file.name for file in folder.iterdir() if file.is_file()}
    index_name = next((name for name in _weight_files(names) if name.endswith(".index.json")), None)
    if (missing := _missing(names)) or index_name is None:
        return missing
    try:
        shards = set(json.loads((folder / index_name).read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, TypeError, KeyError):
        return f"readable {index_name}"
    return min(shards - names, default=None)


def _pointers_in(folder: Path) -> list[str]:
    """Name the files that `git clone` left as pointers, because git-lfs was not there."""

    def is_pointer(name: str) -> bool:
        with (folder / name).open("rb") as file:
            return file.read(len(LFS_POINTER)) == LFS_POINTER

    names = {file.name for file in folder.iterdir()}
    needed = {*_weight_files(names), *names.intersection((CONFIG_FILE, *IMAGE_PROCESSOR_FILES, *TOKENIZER_FILES))}
    return sorted(filter(is_pointer, needed))


def announced_files(model: str, hub: str) -> dict[str, int]:
    """Ask the hub at this address for the files that loading needs: name → size in bytes, `config.json` first.

    Raises:
        WeightsUnavailable: no hub answers there, it has no such model, or the model lacks a file.
    """
    try:
        info = HfApi(endpoint=hub).model_info(model, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        sizes = {sibling.rfilename: int(sibling.size or 0) for sibling in info.siblings or ()}
    except Exception as error:
        raise _explained(error, model, hub) from error
    _require_transformers(sizes, model)
    if missing := _missing(sizes):
        sentence = f"'{model}' on the hub at {hub} has no {missing}."
        raise WeightsUnavailable(sentence, f"Set clip.model to a model with PyTorch weights; {MODEL_LIST}", True)
    small = [name for name in (CONFIG_FILE, CARD_FILE, *IMAGE_PROCESSOR_FILES, *TOKENIZER_FILES) if name in sizes]
    return {name: sizes[name] for name in (*small, *_weight_files(sizes))}


Progress = Callable[[int, int], None]
"""Takes the bytes that have arrived and the bytes in all; what it raises ends the download."""


def fetch_weights(
    model: str,
    on_progress: Progress = lambda arrived, total: None,
    *,
    cache_dir: Path | None = None,
    endpoint: str | None = None,
) -> Path:
    """Download what loading needs and the cache lacks, blocking; else as `find_weights`.

    File by file, since a process cannot end before the threads that `snapshot_download` starts.

    Args:
        model: an existing folder, or a name on the hub.
        on_progress: called as bytes arrive, from this thread or one of huggingface_hub's.
        cache_dir: the hub cache; huggingface_hub's own when None.
        endpoint: the hub's address; huggingface_hub's own (`HF_ENDPOINT`) when None.

    Raises:
        WeightsUnavailable: with the sentence and the remedy, for every way in which this fails.
    """
    cache = Path(cache_dir or constants.HF_HUB_CACHE).expanduser()
    local = find_weights(model, cache)
    if local is not None:
        return local
    hub = (endpoint or constants.ENDPOINT).rstrip("/")
    sizes = announced_files(model, hub)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # Without a revision it notes which commit the name stands for; the others are taken from that commit.
        config = Path(hf_hub_download(model, CONFIG_FILE, cache_dir=cache, endpoint=hub))
        _require_served(config, model)
        _fetch_rest(model, config.parent, sizes, on_progress, cache, hub)
    except WeightsUnavailable:
        raise
    except Exception as error:
        raise _explained(error, model, hub, cache) from error
    return config.parent


def _fetch_rest(model: str, snapshot: Path, sizes: dict[str, int], note: Progress, cache: Path, hub: str) -> None:
    lacking = {name: size for name, size in sizes.items() if not (snapshot / name).exists()}
    total = sum(sizes.values())
    arrived = total - sum(lacking.values())
    for partial_file in snapshot.parents[1].glob("blobs/*.incomplete"):
        if time.time() - partial_file.stat().st_mtime > ABANDONED_S:  # noqa: TID251 - what file times are told in
            partial_file.unlink(missing_ok=True)
    if total - arrived > shutil.disk_usage(cache).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Bar(tqdm):
        """Draws nothing. `update_transfer` is how huggingface_hub asks for a file's bytes to be counted once."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            nonlocal arrived
            arrived += int(n or 0)
            note(arrived, total)

        def update_transfer(self, *_: Any, **options: Any) -> None: ...

        set_transfer_postfix_str = update_transfer

    for name, size in lacking.items():
        note(before := arrived, total)
        hf_hub_download(model, name, revision=snapshot.name, cache_dir=cache, endpoint=hub, tqdm_class=Bar)
        arrived = before + size
    note(total, total)


def _explained(error: BaseException, model: str, hub: str, cache: Path | None = None) -> WeightsUnavailable:
    """Say what went wrong; `cache` is None while the hub has not told the model's files."""
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OfflineModeIsEnabled):
        switch = next(filter(os.environ.get, OFFLINE_SWITCHES), OFFLINE_SWITCHES[0])
        sentence = f"'{model}' is not in the cache {constants.HF_HUB_CACHE}, and {switch} forbids fetching it."
        return WeightsUnavailable(sentence, f"Unset {switch}, or set clip.model to a local folder.", True)
    if isinstance(error, GatedRepoError):
        sentence = f"'{model}' on the hub at {hub} is gated and this account has no access to it."
        return WeightsUnavailable(sentence, "Accept its terms on the hub and set HF_TOKEN to a token of that account.")
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if error.response.headers.get("X-Error-Message") == REFUSAL:
            sentence = f"The hub at {hub} refuses the access token for '{model}'."
            return WeightsUnavailable(sentence, "Correct or unset HF_TOKEN.", True)
        if status == HTTPStatus.FORBIDDEN:
            sentence = f"The hub at {hub}, or a proxy on the way to it, forbids fetching '{model}'."
            return WeightsUnavailable(sentence, f"Check the proxy, and HF_TOKEN if it is set. {RETRIED}")
        if cache is None and status in (HTTPStatus.NOT_FOUND, HTTPStatus.UNAUTHORIZED):
            sentence = f"No model named '{model}' on the hub at {hub}, and no local folder of that name."
            return WeightsUnavailable(sentence, "Check clip.model; a private model needs HF_TOKEN.", True)
        return WeightsUnavailable(f"The hub at {hub} answers with status {status} when asked for '{model}'.", RETRIED)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        sentence = f"The disk of the cache {cache} has no room for '{model}'."
        return WeightsUnavailable(sentence, f"Free some space, or set HF_HOME to a folder on a larger disk. {RETRIED}")
    if isinstance(error, OSError) and error.errno is not None:
        sentence = f"The files of '{model}' cannot be read or written ({error})."
        return WeightsUnavailable(
            sentence, f"Make the folder readable and writable, or set HF_HOME to another. {RETRIED}"
        )
    if isinstance(error, FileMetadataError) or (cache is None and isinstance(error, ValueError | KeyError | TypeError)):
        sentence = f"What answers at {hub} is not a model hub."
        return WeightsUnavailable(sentence, f"Check HF_ENDPOINT and the network's proxy. {RETRIED}")
    if cache is None:
        sentence = f"The hub at {hub} cannot be reached to fetch '{model}' ({error})."
        remedy = f"Check the network and HF_ENDPOINT, or set clip.model to a local folder. {RETRIED}"
        return WeightsUnavailable(sentence, remedy)
    sentence = f"The download of '{model}' from the hub at {hub} broke off ({type(error).__name__})."
    return WeightsUnavailable(sentence, RETRIED)


class Shortfall(NamedTuple):
    """Why CLIP does not answer, and what to do about it: two sentences."""

    reason: str
    remedy: str


class ModelLoader(Generic[Model]):
    """Gets hold of the model: found on disk or fetched, then loaded, tried again where that can help.

    The wait between two downloads begins at `download_retry_first_s` and doubles up to `download_retry_max_s`.

    Args:
        settings: the model's name, and the waits.
        load: from a folder of weights to a model; blocking, run in a thread of its own.
        patience_s: hopeless it is, too, once the waits add up to this and not a byte more has arrived meanwhile; for
            ever it tries when None.
        find: as `find_weights`.
        fetch: as `fetch_weights`.
        wait: waits that many seconds.
    """

    def __init__(
        self,
        settings: ClipSettings,
        load: Callable[[Path], Model],
        *,
        patience_s: float | None = None,
        find: Callable[[str], Path | None] = find_weights,
        fetch: Callable[[str, Progress], Path] = fetch_weights,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._load = load
        self._find = find
        self._fetch = fetch
        self._wait_once = wait
        self._patience_s = patience_s
        self._waited_s = 0.0
        self._most_arrived_bytes = 0
        self._postponed = False
        self.hopeless = False
        """Nothing but a restart can help."""
        self.shortfall = self._downloading("")
        """Why the model is not there now."""

    async def at_once(self) -> Model | None:
        """Load the model if its weights are on disk; without the network."""
        try:
            folder = await asyncio.to_thread(self._find, self._settings.model)
        except WeightsUnavailable as failure:
            self._fail(failure)
            return None
        return None if folder is None else await self._loaded(folder)

    async def eventually(self) -> Model | None:
        """Fetch and load the model, however long it takes; None once it is hopeless.

        Cancelling returns at once; a download ends when its next bytes arrive, and keeps no process alive.
        """
        logger.info("Fetching the weights of '%s'.", self._settings.model)
        retry_s = self._settings.download_retry_first_s
        while not self.hopeless:
            if self._postponed:
                self._postponed = False
                await self._wait(self._settings.load_retry_s)
                continue
            try:
                folder = await self._fetched()
            except WeightsUnavailable as failure:
                self._fail(failure)
                if not failure.permanent:
                    await self._wait(retry_s)
                    retry_s = min(2 * retry_s, self._settings.download_retry_max_s)
                continue
            logger.info("The weights of '%s' are in %s.", self._settings.model, folder)
            model = await self._loaded(folder)
            if model is not None:
                return model
        return None

    async def _wait(self, seconds: float) -> None:
        if self._patience_s is not None and self._waited_s >= self._patience_s:
            logger.error("Tried for long enough: this replica cannot start.")
            self.hopeless = True
            return
        logger.info("Next attempt in %.0f s.", seconds)
        self._waited_s += seconds
        await self._wait_once(seconds)

    def postpone(self, error: OutOfMemory) -> None:
        """Take note that the device was full, and that trying again later can help."""
        logger.warning("%s", error)
        self.shortfall = Shortfall(str(error), f"It is tried again every {self._settings.load_retry_s:g} s.")
        self._postponed = True

    def give_up(self, reason: str, remedy: str) -> None:
        """Take note that the model cannot be had until the service is restarted."""
        self.shortfall = Shortfall(reason, remedy)
        self.hopeless = True

    def _fail(self, failure: WeightsUnavailable) -> None:
        self.shortfall = Shortfall(failure.sentence, failure.remedy)
        self.hopeless = failure.permanent
        logger.log(logging.ERROR if failure.permanent else logging.WARNING, "%s", failure)

    def _downloading(self, progress: str) -> Shortfall:
        sentence = f"The weights of '{self._settings.model}' are being downloaded{progress}."
        return Shortfall(sentence, "CLIP takes over by itself when they are there.")

    async def _fetched(self) -> Path:
        stopped = threading.Event()
        logged_percent = 0

        def note(done_bytes: int, total_bytes: int) -> None:
            nonlocal logged_percent
            if stopped.is_set():
                raise WeightsUnavailable("The download was stopped.", "")
            if done_bytes > self._most_arrived_bytes:
                self._most_arrived_bytes, self._waited_s = done_bytes, 0
            percent = 100 * done_bytes // max(total_bytes, 1)
            self.shortfall = self._downloading(f": {percent} % so far")
            if percent - percent % LOG_STEP_PERCENT > logged_percent:
                logged_percent = percent - percent % LOG_STEP_PERCENT
                megabytes = total_bytes // 1_000_000
                logger.info("The weights of '%s': %d %% of %d MB.", self._settings.model, logged_percent, megabytes)

        try:
            return await _in_daemon_thread(partial(self._fetch, self._settings.model, note))
        finally:
            stopped.set()

    async def _loaded(self, folder: Path) -> Model | None:
        self.shortfall = Shortfall("CLIP is being loaded.", "It takes over by itself.")
        try:
            return await asyncio.to_thread(self._load, folder)
        except OutOfMemory as error:
            self.postpone(error)
        except AnalyzerError as error:
            logger.exception("CLIP could not be loaded from %s.", folder)
            self.give_up(str(error), "Then restart the service.")
        except Exception as error:
            logger.exception("CLIP could not be loaded from %s.", folder)
            sentence = f"CLIP could not be loaded from {folder}: {str(error).rstrip('.')}."
            self.give_up(sentence, f"{self._cure(folder)}, or name another model in clip.model; then restart.")
        return None

    def _cure(self, folder: Path) -> str:
        if folder == Path(self._settings.model).expanduser():
            return "Put right what is in that folder"
        return "Delete that folder so that it is fetched anew"


def _in_daemon_thread(work: Callable[[], Result]) -> asyncio.Future[Result]:
    """Run it where, unlike in `asyncio.to_thread`, the process's end does not wait for it."""
    outcome: Future[Result] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name="weights", daemon=True).start()
    return asyncio.wrap_future(outcome)
