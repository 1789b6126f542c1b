"""The container files, as far as they can be checked without an engine."""

from __future__ import annotations

import fnmatch
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.cli.main import main
from tests.support.in_process import HEALTH

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
INSTRUCTIONS = [
    line
    for line in re.sub(r"\\\n(\s*#.*\n)*", " ", DOCKERFILE).splitlines()
    if line.strip() and not line.startswith("#")
]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


def sources() -> list[str]:
    """Give what the Dockerfile copies from the repository."""
    copied = [shlex.split(line)[1:] for line in INSTRUCTIONS if line.startswith("COPY") and "--from" not in line]
    return [source for words in copied for source in words[:-1]]


def in_context(name: str) -> bool:
    """Whether .dockerignore lets a top-level name through: the last line that matches decides."""
    let_through = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#") and fnmatch.fnmatch(name, line.removeprefix("!")):
            let_through = line.startswith("!")
    return let_through


def test_what_is_copied_exists_and_reaches_the_build_and_nothing_else_does() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S607
    top_level = {line.split("/")[0] for line in tracked.splitlines()}
    assert set(sources()) <= top_level
    assert {name for name in top_level if in_context(name)} == set(sources())


def test_everything_that_the_service_reads_is_copied() -> None:
    assert {"serve_app", "deployments", "configs", "pyproject.toml", "constraints.txt"} <= set(sources())


def test_the_dockerfile_passes_its_linter() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    linted = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")


def test_it_runs_as_a_user_and_is_healthy_when_it_is_ready() -> None:
    assert [line for line in INSTRUCTIONS if line.startswith("USER")] == ["USER 1000"]
    (health,) = (line for line in INSTRUCTIONS if line.startswith("HEALTHCHECK"))
    assert f"http://127.0.0.1:8000{HEALTH}" in health


def test_its_command_is_one_of_ours_with_a_config_that_is_copied(capsys: pytest.CaptureFixture[str]) -> None:
    (command,) = (line for line in INSTRUCTIONS if line.startswith("CMD"))
    program, serve, *options, config = yaml.safe_load(command.removeprefix("CMD "))
    assert (program, serve) == ("image-analyzer", "serve")
    assert (ROOT / config).is_file()
    with pytest.raises(SystemExit):
        main([serve, "--help"])
    assert all(option in capsys.readouterr().out for option in options)


def test_what_compose_names_is_there() -> None:
    volumes = {mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", ())}
    assert volumes == set(COMPOSE["volumes"])
    for service in SERVICES.values():
        assert set(service.get("depends_on", ())) <= set(SERVICES)


def test_the_service_starts_without_the_profile_and_ollama_only_with_it() -> None:
    assert {name for name, service in SERVICES.items() if "profiles" not in service} == {"image-analyzer"}
    assert all(service.get("profiles", ["with-ollama"]) == ["with-ollama"] for service in SERVICES.values())


def test_the_model_is_pulled_by_a_service_that_waits_for_the_server_and_ends() -> None:
    pull = SERVICES["ollama-pull"]
    assert pull["entrypoint"] == ["ollama", "pull"]
    assert pull["depends_on"] == {"ollama": {"condition": "service_healthy"}}
    assert pull["restart"] == "on-failure"
    assert SERVICES["ollama"]["healthcheck"]["test"] == ["CMD", "ollama", "list"]
    assert pull["environment"]["OLLAMA_HOST"] in SERVICES["image-analyzer"]["environment"]["OLLAMA_HOST"]
    assert pull["command"] == [SERVICES["image-analyzer"]["environment"]["OLLAMA_MODEL"]]


def test_the_port_is_open_to_this_machine_alone() -> None:
    assert SERVICES["image-analyzer"]["ports"] == ["127.0.0.1:8000:8000"]
    assert not any("ports" in service for name, service in SERVICES.items() if name != "image-analyzer")


def test_the_gpu_file_lays_gpus_over_services_that_exist() -> None:
    overlay = yaml.safe_load((ROOT / "docker-compose.gpu.yml").read_text())["services"]
    assert set(overlay) == {"image-analyzer", "ollama"} <= set(SERVICES)
    for service in overlay.values():
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]
