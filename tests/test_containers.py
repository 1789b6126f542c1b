"""The container files, as far as they can be checked without an engine: against the repository and the code."""

from __future__ import annotations

import fnmatch
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from serve_app.cli.config import read_config
from tests.support.in_process import HEALTH

ROOT = Path(__file__).parents[1]
INSTRUCTIONS = re.sub(r"\\\n(\s*#.*\n)*", " ", (ROOT / "Dockerfile").read_text()).splitlines()
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


def in_context(name: str) -> bool:
    """Whether .dockerignore lets a top-level name through: the last line that matches decides."""
    let_through = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#") and fnmatch.fnmatch(name, line.removeprefix("!")):
            let_through = line.startswith("!")
    return let_through


def test_all_that_the_service_reads_is_copied_and_nothing_else_reaches_the_build() -> None:
    copied = [shlex.split(line)[1:-1] for line in INSTRUCTIONS if line.startswith("COPY") and "--from" not in line]
    sources = {source for words in copied for source in words}
    assert sources >= {"serve_app", "deployments", "configs", "pyproject.toml", "constraints.txt"}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S607
    assert {name for line in tracked.splitlines() if in_context(name := line.split("/")[0])} == sources


def test_the_dockerfile_passes_its_linter() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    linted = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")


def test_it_starts_our_command_with_a_config_of_ours_and_asks_for_its_health() -> None:
    (command,) = (line.removeprefix("CMD ") for line in INSTRUCTIONS if line.startswith("CMD"))
    *program, config = yaml.safe_load(command)
    helped = subprocess.run([Path(sys.executable).with_name(program[0]), *program[1:], "--help"], capture_output=True)
    assert helped.returncode == 0
    url = read_config(ROOT / config, {}).url
    (health,) = (line for line in INSTRUCTIONS if line.startswith("HEALTHCHECK"))
    assert f"{url}{HEALTH}" in health
    assert SERVICES["image-analyzer"]["ports"] == [f"127.0.0.1:{(port := url.rpartition(':')[2])}:{port}"]


def test_what_compose_names_is_there() -> None:
    volumes = {mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", ())}
    assert volumes == set(COMPOSE["volumes"])
    overlay = yaml.safe_load((ROOT / "docker-compose.gpu.yml").read_text())["services"]
    assert set(overlay).union(*(service.get("depends_on", ()) for service in SERVICES.values())) <= set(SERVICES)


def test_the_service_starts_without_the_profile_and_with_it_the_model_that_it_asks_for_is_pulled() -> None:
    assert {name for name, service in SERVICES.items() if "profiles" not in service} == {"image-analyzer"}
    pull, asking = SERVICES["ollama-pull"], SERVICES["image-analyzer"]["environment"]
    assert pull["environment"]["OLLAMA_HOST"] in asking["OLLAMA_HOST"]
    assert pull["command"] == [asking["OLLAMA_MODEL"]]
