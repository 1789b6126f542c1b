"""`image-analyzer serve`: checks the config, starts Ray Serve on it with the right environment, and stops it whole."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from deployments.errors import SettingsError
from serve_app.cli.config import ServiceConfig, read_config
from serve_app.cli.health import ask_health, describe, health_client
from serve_app.cli.port import require_free_port
from serve_app.cli.ray_env import Mode, chosen_mode
from serve_app.cli.service_log import ServiceLog
from serve_app.cli.supervisor import Patience, StopRequests, Supervisor
from serve_app.schemas import HealthAnswer

ENVIRONMENT_FLAGS = {
    # Torch threads that spin between two batches take the cores from decoding and from Serve's proxy.
    "OMP_WAIT_POLICY": "passive",
    # Ray runs replicas at 15: Ollama, on the same cores at 0, would starve what hands its tokens on.
    "RAY_worker_niceness": "0",
    # Two headers would let a client switch off Serve's timeout, and its watch for who has left.
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve_app.middleware.serve_proxy:middlewares",
    # Nobody's X-Forwarded-For is believed: the limit per address would be one per invented address.
    "FORWARDED_ALLOW_IPS": "",
    # Nothing phones home.
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # The log shows each line when it is written.
    "PYTHONUNBUFFERED": "1",
}
"""What the service runs with, unless the user's environment says otherwise."""

ON_THIS_MACHINE = {
    # Made for Windows and macOS, it has Ray listen on the loopback address alone: its metrics ask nobody who they are.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
"""What is added where the service starts Ray itself, and joins no cluster."""

SERVE_RUN = (sys.executable, "-m", "ray.serve.scripts", "run")
"""Ray's own `serve run`, of the Python that runs this; the config's path follows."""


def serve(
    config_file: Path,
    *,
    start_timeout_s: float,
    stop_timeout_s: float,
    log_file: Path | None = None,
    verbose: bool = False,
    command: Sequence[str] = SERVE_RUN,
) -> int:
    """Run the service until Ctrl-C.

    Args:
        config_file: the Serve config.
        start_timeout_s: longest start.
        stop_timeout_s: longest stop, before what is left is killed.
        log_file: receives what the service writes; when None a temporary file, deleted after a clean stop.
        verbose: show it on stdout too.
        command: what runs the service when the config's path is put behind it.

    Returns:
        0 after a stop that was asked for, 1 when the service failed, 2 when config, port or log file forbid a start.
    """
    try:
        config = read_config(config_file, os.environ)
        _require_free_port(config)
        log = ServiceLog(log_file)
    except SettingsError as error:
        print(f"image-analyzer: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"image-analyzer: The log file cannot be written ({error}): name another.", file=sys.stderr)
        return 2
    patience = Patience(start_s=start_timeout_s, stop_s=stop_timeout_s)
    status = 1
    try:
        with chosen_mode(config.host, config.port, with_flags(os.environ)) as mode:
            status = asyncio.run(_run([*command, str(config.path)], config, mode, log, patience, verbose))
    finally:
        log.close()
        if status == 0 and log_file is None:
            log.path.unlink(missing_ok=True)
    return status


def _require_free_port(config: ServiceConfig) -> None:
    try:
        require_free_port(config)
    except SettingsError:
        if asyncio.run(_already_answers(config)):
            raise SettingsError(
                f"The service already runs at {config.url}: use that one, or stop it, or set http_options.port in "
                f"{config.path} to another."
            ) from None
        raise


async def _already_answers(config: ServiceConfig) -> bool:
    async with health_client(config) as client:
        return await ask_health(client, config.url) is not None


async def _run(
    command: Sequence[str],
    config: ServiceConfig,
    mode: Mode,
    log: ServiceLog,
    patience: Patience,
    verbose: bool,
) -> int:
    print(f"Starting the service from {config.path} …  (log: {log.path})", flush=True)
    stop = StopRequests()
    async with health_client(config) as client:
        supervisor = Supervisor(
            command,
            environment=mode.environment,
            log=log,
            ask=lambda: ask_health(client, config.url),
            announce=lambda health, start_s: banner(config, mode, health, start_s),
            say=lambda line: print(line, flush=True),
            stop=stop,
            patience=patience,
            verbose=verbose,
        )
        with on_signals(stop):
            return await supervisor.run()


def with_flags(environment: Mapping[str, str]) -> dict[str, str]:
    """Lay an environment over the flags: what the user has set stays."""
    joins_a_cluster = bool(environment.get("RAY_ADDRESS"))
    return {**ENVIRONMENT_FLAGS, **({} if joins_a_cluster else ON_THIS_MACHINE), **environment}


def banner(config: ServiceConfig, mode: Mode, health: HealthAnswer, start_s: float) -> str:
    """Say where the service listens, in which mode, what answers now, and what would improve it."""
    reach = " (from other machines too)" if config.open_to_others else ""
    unguarded = config.open_to_others and not health.key_required
    return "\n".join(
        (
            f"Image Analyzer listens at {config.url}{reach}, after {start_s:.0f} s",
            *(f"  {line}" for line in describe(health)),
            f"  Mode:     {f'plain: {mode.plain_because}' if mode.plain_because else 'fast'}",
            *(["  Access:   nobody is asked for a key: set access.keys_file (SECURITY.md)"] if unguarded else []),
            f"  Page:     {config.url}/",
            f"  API:      {config.url}/docs",
            f"  Try it:   curl -F image=@PICTURE {config.url}/api/images/analyze",
            "  Stop it:  Ctrl-C",
        )
    )


@contextmanager
def on_signals(stop: StopRequests) -> Iterator[None]:
    """Turn Ctrl-C, `kill` and a closed terminal into requests to stop.

    A shell without job control starts `… &` with SIGINT ignored; being handled here, it works for the child as well.
    A hang-up that was ignored on purpose (nohup) stays ignored.
    """
    loop = asyncio.get_running_loop()
    wanted = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        wanted.append(signal.SIGHUP)
    for number in wanted:
        loop.add_signal_handler(number, stop.request)
    try:
        yield
    finally:
        for number in wanted:
            loop.remove_signal_handler(number)
