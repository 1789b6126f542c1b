"""What is measured: how each system is started, where it answers, and at how many callers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.machine import commit
from benchmarks.peers import infinity
from benchmarks.service import ROOT
from benchmarks.upload import BodyKind
from benchmarks.workload import Workload

SERVE_CONFIG = ROOT / "serve_config.yaml"
NO_OLLAMA = {"hosts": ["http://127.0.0.1:9"]}
"""Nothing listens there: where prompts are not measured, an Ollama of this machine must not take its cores."""

LIMIT, OURS, OURS_PLAIN = "limit", "ours", "ours-plain"
ORIGINAL, FASTAPI, SERVE_DOCS = "original", "fastapi", "serve-docs"
LITSERVE_DOCS, LITSERVE_TUNED, INFINITY = "litserve-docs", "litserve-tuned", "infinity"

CALLERS = (1, 16, 32)
RISING_CALLERS = (64, 128)
"""Ours alone: rising load must not collapse."""
SERVING_CALLERS = (1, 16, 64)
"""Without a model."""

OUR_STOP_S = 40
"""More than `image-analyzer serve` takes, which sees to it that nothing of Ray is left."""
PYTHON = sys.executable
SERVE = (PYTHON, "-m", "serve_app.cli.main", "serve")
"""`image-analyzer serve` of the checkout that it runs in; the config's path follows."""

Command = Sequence[str | Path]


@dataclass(frozen=True)
class System:
    """One system.

    Args:
        name: as the tables call it.
        what: in a few words.
        command: gives the command that serves on a port; may install and write files into the folder.
        path: where pictures are sent to.
        body: how.
        form: what is sent besides the picture.
        callers: levels of load.
        warm_up_callers: of the load before the first measurement.
        stop_s: how long it may take to stop when asked to; at 0 it is ended without asking.
        variables: of its environment.
        root: the checkout that it runs in.
        health: where it tells what it still does after its first answer; empty where there is nothing.
    """

    name: str
    what: str
    command: Callable[[Workload, int, Path], Command]
    path: str = "/analyze"
    body: BodyKind = "multipart"
    form: Mapping[str, str] = field(default_factory=dict)
    callers: tuple[int, ...] = CALLERS
    warm_up_callers: int = 16
    stop_s: float = 0
    variables: Mapping[str, str] = field(default_factory=dict)
    root: Path = ROOT
    health: str = ""


def all_systems(*, quick: bool) -> tuple[System, ...]:
    """Give every system that is a service; the limit is not one.

    The original answers so slowly that a queue of 32 takes 20 s to fill and as long to empty: a quick run leaves that
    level out.
    """
    return (
        replace(OUR_SYSTEM, callers=(*CALLERS, *RISING_CALLERS)),
        System(
            ORIGINAL,
            "the guide's algorithm: FastAPI, five float32 passes, 69 labels encoded per request",
            _uvicorn("benchmarks.peers.original:app"),
            callers=CALLERS[:-1] if quick else CALLERS,
            warm_up_callers=1,
        ),
        System(
            FASTAPI,
            "FastAPI and threads, torch bfloat16, labels encoded once",
            _uvicorn("benchmarks.peers.fastapi_threads:app"),
        ),
        System(SERVE_DOCS, "Ray Serve as its docs teach: FastAPI, @serve.batch, torch bfloat16", _serve_docs),
        System(
            LITSERVE_DOCS,
            "LitServe as its docs teach: batching, torch bfloat16",
            _module("benchmarks.peers.litserve_docs"),
        ),
        System(
            LITSERVE_TUNED,
            "LitServe tuned by hand: our engine and decoder, a worker of one thread per core",
            _module("benchmarks.peers.litserve_tuned"),
        ),
        System(
            INFINITY,
            "infinity, untuned; embeddings only",
            _infinity,
            path="/embeddings",
            body="data-uri",
            form={"model": infinity.MODEL_NAME},
        ),
    )


Settings = Mapping[str, Mapping[str, Any]]
"""Section of our settings → what is set in it."""


def our_config(shipped: Path, port: int, settings: Settings) -> str:
    """Give the shipped Serve config with another port, and with these settings."""
    config = yaml.safe_load(shipped.read_text())
    config["http_options"]["port"] = port
    (application,) = config["applications"]
    for section, changes in settings.items():
        application["args"][section] = {**application["args"].get(section, {}), **changes}
    return yaml.safe_dump(config)


def our_command(
    name: str, root: Path = ROOT, **settings: Mapping[str, Any]
) -> Callable[[Workload, int, Path], Command]:
    """Give the command of a checkout's service with these settings; its files are called by the name."""

    def command(workload: Workload, port: int, folder: Path) -> Command:
        config = folder / f"{name}.yaml"
        asked: Settings = {"clip": {"model": str(workload.model)}, "ollama": NO_OLLAMA, **settings}
        config.write_text(our_config(root / SERVE_CONFIG.name, port, asked))
        return (*SERVE, config)

    return command


OUR_SYSTEM = System(
    OURS,
    "image-analyzer serve, default settings",
    our_command(OURS),
    path="/api/images/analyze",
    form={"analysis_only": "true"},
    stop_s=OUR_STOP_S,
    health="/api/images/health",
)


def of_checkout(root: Path) -> System:
    """Give the service of another checkout of this repository, in this environment."""
    name = commit(root)
    return replace(OUR_SYSTEM, name=name, what=f"the service of {root}", command=our_command(name, root), root=root)


def without_model() -> tuple[System, ...]:
    """Give the systems whose own cost is compared, with a model so small that it costs nothing."""
    plain = replace(
        OUR_SYSTEM,
        name=OURS_PLAIN,
        what="the same in plain mode",
        command=our_command(OURS_PLAIN),
        variables={"RAY_SERVE_ENABLE_HA_PROXY": "0"},
    )
    peers = [system for system in all_systems(quick=False) if system.name in (LITSERVE_DOCS, LITSERVE_TUNED)]
    return tuple(replace(system, callers=SERVING_CALLERS) for system in (OUR_SYSTEM, plain, *peers))


def _uvicorn(application: str) -> Callable[[Workload, int, Path], Command]:
    return lambda workload, port, folder: (PYTHON, "-m", "uvicorn", application, "--port", str(port))


def _module(name: str) -> Callable[[Workload, int, Path], Command]:
    return lambda workload, port, folder: (PYTHON, "-m", name, str(port))


def _serve_docs(workload: Workload, port: int, folder: Path) -> Command:
    config = folder / "serve-docs.yaml"
    application = {"name": "analysis", "route_prefix": "/", "import_path": "benchmarks.peers.serve_docs:app"}
    config.write_text(
        yaml.safe_dump({"http_options": {"host": "127.0.0.1", "port": port}, "applications": [application]})
    )
    return (PYTHON, "-m", "ray.serve.scripts", "run", config)


def _infinity(workload: Workload, port: int, folder: Path) -> Command:
    command = infinity.install(folder / "infinity")
    model = ("--model-id", workload.model, "--served-model-name", infinity.MODEL_NAME)
    return (command, "v2", *model, "--host", "127.0.0.1", "--port", str(port))
