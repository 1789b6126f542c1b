"""`image-analyzer serve`: checks the config, runs Ray Serve on it in this process, says what it found, stops it."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.errors import SettingsError
from serve_app.cli.config import ServiceConfig, read_config, reason_of, require_free_port
from serve_app.cli.console import Console
from serve_app.cli.health import HealthNews, ask_health, describe, has_started, shortfall
from serve_app.cli.metrics_door import VARIABLE, Address, MetricsDoor, chosen_address
from serve_app.cli.places import check_places, check_weights_cache
from serve_app.cli.ray_env import CLUSTER, Mode, chosen_mode, joined_cluster, rays_own, with_flags
from serve_app.cli.running import RunningService, listed
from serve_app.cli.stopping import EndAtOnce, StopAsked, StopSignals, adopt_orphans, end_children
from serve_app.schemas import HealthAnswer

if TYPE_CHECKING:
    from serve_app.cli.cluster import Head, Instance

START_POLL_S = 0.25
HEALTH_POLL_S = 5.0

STOP_MARGIN_S = 10.0
"""By how much the default time to stop is above the longest answer, its upload included."""

LAST_BYTES_S = 1.0
"""What the proxy may take to hand on the last bytes of answers that the ingress has finished."""


class Failed(Exception):
    """The service cannot start, or cannot go on; the lines say why."""

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)
        self.lines = lines


def serve(
    config_file: Path,
    *,
    start_timeout_s: float,
    stop_timeout_s: float | None = None,
    log_file: Path | None = None,
    verbose: bool = False,
    dashboard: bool = False,
    metrics: str | None = None,
) -> int:
    """Run the service until Ctrl-C.

    Args:
        config_file: the Serve config.
        start_timeout_s: longest start.
        stop_timeout_s: how long what was admitted may take to finish; when None, longer than the longest answer.
        log_file: receives what the service writes, besides Ray's own folder of logs.
        verbose: show it on stdout too.
        dashboard: start Ray's dashboard.
        metrics: where Prometheus asks, or at the next free port; when None, as the environment says.

    Returns:
        0 after a stop that was asked for, 1 when the service failed, 2 when config, port or machine forbid a start.
    """
    environment = with_flags(os.environ)
    try:
        config = read_config(config_file, os.environ)
        _require_free_port(config)
        _require_places(os.environ, log_file)
        metrics_at = chosen_address(metrics, os.environ)
        console = Console(log_file, verbose=verbose)
    except (SettingsError, OSError) as error:
        print(f"image-analyzer: {error}", file=sys.stderr)
        return 2
    cache = check_weights_cache(config.settings.clip.model)
    if not cache.ok:
        console.say(str(cache))
    longest_s = config.settings.limits.upload_timeout_s + config.settings.limits.total_timeout_s
    with console, chosen_mode(config.host, config.port, environment) as mode:
        run = Run(
            config,
            mode,
            console,
            start_timeout_s=start_timeout_s,
            stop_timeout_s=longest_s + STOP_MARGIN_S if stop_timeout_s is None else stop_timeout_s,
            dashboard=dashboard,
            metrics_at=metrics_at,
        )
        return run.until_stopped()


def _require_free_port(config: ServiceConfig) -> None:
    try:
        require_free_port(config)
    except SettingsError:
        if ask_health(config) is not None:
            raise SettingsError(
                f"The service already runs at {config.url}: use that one, or stop it, or set http_options.port in "
                f"{config.path} to another."
            ) from None
        raise


def _require_places(environment: Mapping[str, str], log_file: Path | None) -> None:
    for finding in check_places(environment, log_file):
        if not finding.ok:
            raise SettingsError(finding.sentence)


@dataclass
class Run:
    """One run of the service, `metrics_at` being where Prometheus asks, or at the next free port."""

    config: ServiceConfig
    mode: Mode
    console: Console
    start_timeout_s: float
    stop_timeout_s: float
    dashboard: bool
    metrics_at: Address

    def __post_init__(self) -> None:
        self._door: MetricsDoor | None = None
        self._started_s = time.monotonic()
        self._head: Head | None = None
        self._instance: Instance | None = None
        self._answers = False
        self._signals = StopSignals()

    def until_stopped(self) -> int:
        """Start, watch, stop; the exit status."""
        say = self.console.say
        say(f"Starting the service from {self.config.path} …")
        os.environ.update(self.mode.environment)
        if self.console.follows_logs:
            os.environ["RAY_SERVE_LOG_TO_STDERR"] = "1"
        adopt_orphans()
        status = 0
        self._signals.take()
        try:
            with ExitStack() as stack:
                self._start(stack)
                self._watch()
        except StopAsked:
            say("Stopping: what was begun is finished … (Ctrl-C again ends it at once)")
        except Failed as failure:
            status = 1
            for line in failure.lines:
                say(line)
        except EndAtOnce:
            pass
        except Exception as error:
            status = 1
            say(f"✗ {type(error).__name__}: {error}")
            say(self._log_hint())
            if self.console.follows_logs:
                traceback.print_exc()
        with suppress(EndAtOnce):
            self._stop(gently=self._answers and not status)
        self._end()
        say("Stopped.")
        return status

    def _start(self, stack: ExitStack) -> None:
        # Ray and Serve read their environment when they are imported.
        from serve_app.cli.cluster import Head, Instance, schema_of

        self._signals.take()
        address = joined_cluster(os.environ)
        show = self.console.waits_for
        if address:
            self.console.say(
                f"Joining the Ray cluster at {address} (RAY_ADDRESS); the environment of this shell does not reach its "
                "nodes."
            )
        else:
            self._door = self._opened()
            show("starting Ray")
            self._head = Head(dashboard=self.dashboard, follow_logs=self.console.follows_logs)
            address = self._head.address
        self._signals.wait(0)
        try:
            self._instance = Instance(address, follow_logs=self.console.follows_logs)
        except ConnectionError as error:
            raise Failed(f"✗ No Ray cluster answers at {address}, which {CLUSTER} names: {error}.") from error
        self._signals.take()
        show("starting Serve")
        schema = schema_of(dict(self.config.content))
        self._instance.start(schema)
        self._signals.wait(0)
        self._instance.deploy(schema)
        health = self._until_answering(self._instance)
        running = RunningService(
            process=os.getpid(),
            ray_address=address,
            environment=rays_own(self.mode.environment),
        )
        stack.enter_context(listed(self.config.port, running))
        exporter = self._instance.metrics_url()
        places = {
            "Metrics": self._door.lead_to(exporter) if self._door else exporter,
            "Ray": self._head.dashboard_url if self._head else "",
            "Log": str(self._head.log_folder) if self._head else "",
        }
        self._answers = True
        self.console.say(banner(self.config, self.mode, health, time.monotonic() - self._started_s, places))

    def _opened(self) -> MetricsDoor:
        try:
            return MetricsDoor(self.metrics_at)
        except OSError as error:
            raise Failed(
                f"✗ Nobody can listen for metrics at {self.metrics_at} ({reason_of(error)}): set --metrics or "
                f"{VARIABLE} to another address."
            ) from error

    def _until_answering(self, instance: Instance) -> HealthAnswer:
        from serve_app.cli.cluster import failures, still_starting

        health: HealthAnswer | None = None
        while time.monotonic() - self._started_s < self.start_timeout_s:
            status = instance.status()
            told = list(failures(status, self.config.applications))
            if told:
                raise Failed(
                    "✗ Serve cannot start the application.", *(f"    {line}" for line in told), self._log_hint()
                )
            waiting = still_starting(status, self.config.applications)
            self.console.waits_for(f"waiting for {', '.join(waiting) or 'its first answer'}")
            if not waiting:
                health = ask_health(self.config)
                if health is not None and has_started(health):
                    return health
            self._signals.wait(START_POLL_S)
        parts = health.components.values() if health is not None else ()
        raise Failed(
            *(line for part in parts for line in shortfall(part)),
            f"✗ The service did not start within {self.start_timeout_s:g} s.",
            self._log_hint(),
        )

    def _watch(self) -> None:
        news = HealthNews()
        while True:
            for line in news.lines(ask_health(self.config), time.monotonic()):
                self.console.say(line)
            self._signals.wait(HEALTH_POLL_S)
            lost = self._head.lost() if self._head is not None else ""
            if lost:
                raise Failed(f"✗ Ray's process '{lost}' has ended, and the service with it.", self._log_hint())

    def _stop(self, *, gently: bool) -> None:
        if self._instance is None:
            return
        if gently:
            self._drain(self._instance)
        if self._head is None:
            self._instance.shut_down()

    def _drain(self, instance: Instance) -> None:
        try:
            instance.drain(self.config.applications, self.stop_timeout_s)
        except TimeoutError:
            self.console.say(f"✗ Not all was finished within {self.stop_timeout_s:g} s.")
        except Exception as error:
            self.console.say(f"✗ What was begun could not be waited for ({error!r}).")
        else:
            time.sleep(LAST_BYTES_S)

    def _end(self) -> None:
        if self._instance is not None:
            self._instance.leave()
        if self._head is not None:
            self._head.end()
            end_children()
        if self._door is not None:
            self._door.close()

    def _log_hint(self) -> str:
        where = self._head.log_folder if self._head is not None else "the logs of the cluster's nodes"
        return f"    → its whole log: {where}"


def banner(
    config: ServiceConfig, mode: Mode, health: HealthAnswer, start_s: float, places: Mapping[str, str] | None = None
) -> str:
    """Say where the service listens, in which mode, what answers now and what would improve it, and other `places`."""
    reach = " (from other machines too)" if config.open_to_others else ""
    unguarded = config.open_to_others and not health.key_required
    key = "-H 'Authorization: Bearer KEY' " if health.key_required else ""
    return "\n".join(
        (
            f"Image Analyzer listens at {config.url}{reach}, after {start_s:.0f} s",
            *(f"  {line}" for line in describe(health)),
            f"  Mode:     {f'plain: {mode.plain_because}' if mode.plain_because else 'fast'}",
            *(["  Access:   nobody is asked for a key: set access.keys_file (SECURITY.md)"] if unguarded else []),
            f"  Page:     {config.url}/",
            f"  API:      {config.url}/docs",
            *(f"  {f'{name}:':<10}{place}" for name, place in (places or {}).items() if place),
            f"  Try it:   curl {key}-F image=@PICTURE {config.url}/api/images/analyze",
            "  Stop it:  Ctrl-C",
        )
    )
