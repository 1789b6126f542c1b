"""What the service needs of the machine before anything starts: folders and room in them, open files, a way to Ray.

`serve` refuses to start on what is found here and `doctor` shows it first, both in the same words. In a folder that is
full or read-only Ray waits for a minute and more, or ends in a traceback.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from huggingface_hub import constants

from deployments.clip.weights import WeightsUnavailable, find_weights
from deployments.errors import SettingsError
from serve_app.cli import running
from serve_app.cli.console import MAX_LOG_BYTES
from serve_app.cli.doctor import Finding
from serve_app.cli.ray_env import (
    CLUSTER,
    MAX_FOLDER_BYTES,
    OBJECT_STORE_BYTES,
    PROXIES,
    RAYS_FOLDER,
    joined_cluster,
    named_folder,
    open_files,
    rays_folder,
)

MB = 1_000_000
SESSION_MB = 50
"""Ray's folder of one run: 6 MB after a start and some thousand requests; the rest is for its logs."""
WEIGHTS_MB = 620
"""The default model's files, 610 MB, and what the hub's library writes beside them."""
FEWEST_FILES = 256
"""Ray itself holds some hundred at rest, HAProxy two and a half for each connection."""
CONNECT_TIMEOUT_S = 3.0
RAYS_PORT = 6379
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108


def check_places(environment: Mapping[str, str], log_file: Path | None = None) -> Iterator[Finding]:
    """Check everything without which the service cannot start.

    Args:
        environment: the user's.
        log_file: what `--log-file` names.
    """
    if address := joined_cluster(environment):
        yield check_cluster(address, environment)
    else:
        yield check_rays_folder(environment)
        yield check_open_files(open_files())
    yield check_notes()
    yield from check_proxies(environment)
    if log_file is not None:
        yield check_log_file(log_file)


def check_rays_folder(environment: Mapping[str, str]) -> Finding:
    """Check that Ray may write to its folder, and has room there."""
    name = "Ray's folder"
    folder, named = Path(rays_folder(environment)), named_folder(environment)
    detail = str(folder) if str(folder) == named else f"{folder}, since the path {named} is too long for Ray's sockets"
    short = f"of at most {MAX_FOLDER_BYTES} characters"
    if why := unwritable(folder / "ray"):
        return Finding(name, False, why, f"set {RAYS_FOLDER} to another folder, {short}")
    needed_mb, shared = SESSION_MB, ""
    if free_bytes(SHARED_MEMORY) < OBJECT_STORE_BYTES:
        needed_mb += OBJECT_STORE_BYTES // MB
        shared = f", or give {SHARED_MEMORY} {OBJECT_STORE_BYTES // MB} MB (docker run --shm-size)"
    return check_room(name, folder, needed_mb, f"set {RAYS_FOLDER} to a folder with more, {short}{shared}", detail)


def check_room(name: str, place: Path, needed_mb: int, elsewhere: str, detail: str = "") -> Finding:
    """Check that a place has room.

    Args:
        name: of the finding.
        place: a folder or a file, there already or not.
        needed_mb: MB that must be free.
        elsewhere: what moves it.
        detail: what it is called; by default, its path.
    """
    free_mb = free_bytes(place) // MB
    told = f"{detail or place}: {free_mb} MB free"
    if free_mb >= needed_mb:
        return Finding(name, True, told)
    return Finding(name, False, f"{told}, {needed_mb} MB needed", f"free some, or {elsewhere}")


def check_open_files(limit: int) -> Finding:
    """Check how many files a process may hold open."""
    if limit >= FEWEST_FILES:
        return Finding("Open files", True, f"up to {limit}")
    return Finding("Open files", False, f"{limit} at most, {FEWEST_FILES} needed", "raise it: ulimit -n 4096")


def check_notes() -> Finding:
    """Check the folder in which `status` and `deploy` find the service."""
    name = "Temporary folder"
    try:
        return check_room(name, running.folder(), 1, "set TMPDIR to a folder with more")
    except SettingsError as error:
        return Finding(name, False, str(error).rstrip("."), "then start again")
    except OSError as error:
        return Finding(name, False, f"none can be written ({error.strerror or error})", "set TMPDIR to one that can")


def check_cluster(address: str, environment: Mapping[str, str]) -> Finding:
    """Check that somebody listens where RAY_ADDRESS says: Ray itself would ask for minutes."""
    name = "Ray cluster"
    try:
        asked = _address_on_record(environment) if address == "auto" else address
        parts = urlsplit(asked if "://" in asked else f"ray://{asked}")
        with socket.create_connection((parts.hostname or "", parts.port or RAYS_PORT), CONNECT_TIMEOUT_S):
            return Finding(name, True, f"{asked} ({CLUSTER})")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        return Finding(
            name,
            False,
            f"no Ray answers at {address}, which {CLUSTER} names ({why})",
            f"start it there, or unset {CLUSTER} for a Ray of the service's own",
        )


def _address_on_record(environment: Mapping[str, str]) -> str:
    """Give the address that the Ray which was started last on this machine has left for others."""
    return (Path(named_folder(environment)) / "ray" / "ray_current_cluster").read_text().strip()


def check_proxies(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Check that the proxies of the environment are such that the packages here can speak to them."""
    for name in PROXIES:
        address = environment.get(name, "")
        try:
            if address:
                httpx.HTTPTransport(proxy=address if "://" in address else f"http://{address}").close()
        except ImportError:
            fault = f"{name} names a SOCKS proxy, for which a package is missing"
            yield Finding("Proxy", False, fault, f"pip install socksio, or unset {name}")
        except (ValueError, httpx.InvalidURL):
            yield Finding("Proxy", False, f"{name} is {address!r}, which is no proxy's address", f"unset {name}")


def check_log_file(file: Path) -> Finding:
    """Check that the log file can be written, and has room for two of its full size, the old one and the new."""
    name, another = "Log file", "name another with --log-file"
    why = unwritable(file, folder=False) if file.parent.is_dir() else f"there is no folder {file.parent}"
    if why:
        return Finding(name, False, f"The log file cannot be written: {why}", another)
    return check_room(name, file, 2 * MAX_LOG_BYTES // MB, another)


def check_weights_cache(model: str, cache_dir: Path | None = None) -> Finding:
    """Check that CLIP's weights, where they are not here yet, may be fetched; without them the service answers too."""
    name, cache = "Model cache", cache_dir or Path(constants.HF_HUB_CACHE)
    with suppress(WeightsUnavailable):  # said elsewhere, and no matter of room
        if constants.HF_HUB_OFFLINE or find_weights(model, cache) is not None:
            return Finding(name, True, "not needed, nothing is to be fetched")
    if str(cache).startswith("~"):
        return Finding(name, False, "this user has no home folder to keep CLIP's weights in", "set HOME, or HF_HOME")
    if why := unwritable(cache):
        return Finding(name, False, f"CLIP's weights cannot be kept: {why}", "set HF_HOME (or HOME) to another folder")
    return check_room(name, cache, WEIGHTS_MB, "set HF_HOME to a folder with more")


def unwritable(place: Path, *, folder: bool = True) -> str:
    """Say why this user cannot write to a folder or file, which need not be there yet; empty where nothing is wrong."""
    if place.exists() and place.is_dir() is not folder:
        return f"{place} is {'no' if folder else 'a'} folder"
    there = _nearest(place)
    if os.access(there, os.W_OK | (os.X_OK if there.is_dir() else 0)):
        return ""
    if os.statvfs(there).f_flag & os.ST_RDONLY:
        return f"{place} lies on a read-only file system"
    return f"this user may not write to {there}"


def free_bytes(place: Path) -> int:
    """Tell how much this user may still write where a place is, or will be; 0 where that cannot be told."""
    try:
        there = _nearest(place)
        if (state := os.statvfs(there)).f_files and not state.f_favail:
            return 0  # There is room, and no more files can be made.
        return shutil.disk_usage(there).free
    except OSError:
        return 0


def _nearest(place: Path) -> Path:
    return next((path for path in (place, *place.absolute().parents) if path.exists()), Path(tempfile.gettempdir()))
