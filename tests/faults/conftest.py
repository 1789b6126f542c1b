"""A service that expects Ollama's answers within a second, with a CLIP that fails on certain pictures."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.cli.ray_env import SWITCH
from tests.support.fake_ollama import Answer, FakeOllama
from tests.support.local_hub import LocalHub
from tests.support.pictures import photograph_path
from tests.support.ports import free_port
from tests.support.service import Service, application

FULL_DISK = "/full"
"""Route prefix of an application whose weights find no room in their cache."""

PHOTOGRAPH = photograph_path("china").read_bytes()
TOKENS = ["A temple with a red roof and a high white wall, ", "by ", "the ", "lake."]


@pytest.fixture(scope="package")
def started_ollama() -> Iterator[FakeOllama]:
    with FakeOllama(parallel=8) as server:
        yield server


@pytest.fixture
def ollama(started_ollama: FakeOllama) -> FakeOllama:
    """Quick and with its model, until a test orders something else."""
    started_ollama.answer = Answer(TOKENS)
    started_ollama.models = ["mistral:latest"]
    return started_ollama


@pytest.fixture(scope="package")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | None]:
    """A disk of 100 KB; None where this user may not mount one."""
    mount, umount = shutil.which("mount") or "", shutil.which("umount") or ""
    folder = tmp_path_factory.mktemp("disk")
    if subprocess.run([mount, "-t", "tmpfs", "-o", "size=100k", "none", folder], capture_output=True).returncode:
        yield None
    else:
        yield folder
        subprocess.run([umount, "-l", folder], check=True)


@pytest.fixture(scope="package")
def service(tiny_clip: Path, started_ollama: FakeOllama, small_disk: Path | None) -> Iterator[Service]:
    impatient = {"first_token_timeout_s": 1, "token_gap_timeout_s": 1, "total_timeout_s": 3}
    ollama = {"ollama": {"hosts": [started_ollama.url], **impatient}}
    disk = {} if small_disk is None else {"HF_HOME": str(small_disk)}
    with LocalHub({"openai/tiny": tiny_clip}, port=free_port()) as hub:
        applications = [
            application(
                "main", "/", {"clip": {"model": str(tiny_clip)}, **ollama}, builder="tests.support.frail_clip:build"
            ),
            application("full", FULL_DISK, {"clip": {"model": "openai/tiny"}, **ollama}),
        ]
        with Service(applications, {SWITCH: "1", "HF_ENDPOINT": hub.url, **disk}) as service:
            yield service
