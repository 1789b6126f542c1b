"""The container files, as far as they can be checked without an engine: against the repository and the code."""

from __future__ import annotations

import fnmatch
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from serve_app.cli.config import read_config
from serve_app.cli.ray_env import FLAGS
from serve_app.settings import load_settings
from tests.support.fake_ollama import Answer, FakeOllama
from tests.support.in_process import ANALYZE
from tests.support.pictures import photograph_path
from tests.support.service import Service

ROOT = Path(__file__).parents[1]
INSTRUCTIONS = re.sub(r"\\\n(\s*#.*\n)*", " ", (ROOT / "Dockerfile").read_text()).splitlines()
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
FOR_ONE_MACHINE = ("serve_config.yaml", "configs/cpu.yaml", "configs/rtx3050.yaml")
MACHINE_CPUS = 2
"""Of the smallest machine that they are for."""


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


def given(text: str, shell: Mapping[str, str] | None = None) -> str:
    """Put in what stands for `${NAME:-default}`, as compose does."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: (shell or {}).get(found[1]) or found[2], text)


def environment(shell: Mapping[str, str] | None = None) -> dict[str, str]:
    return {name: given(value, shell) for name, value in SERVICES["image-analyzer"]["environment"].items()}


def instruction(name: str) -> str:
    *_, last = (line for line in INSTRUCTIONS if line.startswith(f"{name} "))
    return last


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """The folder that the image's build makes of the configs."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    shutil.copy(ROOT / "serve_config.yaml", tmp_path)
    (changing,) = re.findall(r"sed --in-place '[^']+' [^&;\n]+", "\n".join(INSTRUCTIONS))
    subprocess.run(["bash", "-c", changing], cwd=tmp_path, check=True)  # noqa: S607
    return tmp_path


@pytest.mark.parametrize("config", FOR_ONE_MACHINE)
def test_a_config_for_one_machine_listens_where_the_engine_s_ports_lead(inside: Path, config: str) -> None:
    *program, named = (given(word, {"CONFIG": config}) for word in SERVICES["image-analyzer"]["command"])
    assert [*program, given("${CONFIG:-serve_config.yaml}")] == yaml.safe_load(instruction("CMD").partition(" ")[2])
    read = read_config(inside / named, environment())
    assert (read.host, read.port) == ("0.0.0.0", 8000)  # noqa: S104
    assert read.content == yaml.safe_load((ROOT / config).read_text()) | {"http_options": read.content["http_options"]}


def test_compose_asks_for_what_the_image_does_since_oci_images_do_not_and_publishes_on_this_machine_alone() -> None:
    compose = SERVICES["image-analyzer"]
    (asked,) = re.findall(r"CMD (\[.*\])", instruction("HEALTHCHECK"))
    assert compose["healthcheck"]["test"] == ["CMD", *yaml.safe_load(asked)]
    assert compose["healthcheck"]["test"][-1] == "http://127.0.0.1:8000/api/images/ready"
    published = [port.split(":") for port in compose["ports"]]
    assert {address for address, *_ in published} == {"127.0.0.1"}
    ports = [port for *_, port in published]
    assert instruction("EXPOSE").split()[1:] == ports
    assert environment()["IMAGE_ANALYZER_METRICS"] == f"0.0.0.0:{ports[1]}"


def test_what_phones_home_is_switched_off_in_the_image() -> None:
    set_there = dict(word.split("=", 1) for word in instruction("ENV").split()[1:])
    silent = {name: value for name, value in FLAGS.items() if "TELEMETRY" in name or "USAGE" in name}
    assert silent.items() <= set_there.items()
    assert len(silent) == 2


def test_a_volume_for_what_is_fetched_hides_no_weights_that_are_baked_in() -> None:
    mounted = [Path(mount.split(":")[1]) for mount in SERVICES["image-analyzer"]["volumes"]]
    assert f"HF_HOME={mounted[0]}" in instruction("ENV")
    (workdir,) = {line.split()[1] for line in INSTRUCTIONS if line.startswith("WORKDIR")}
    assert not any(Path(workdir).is_relative_to(volume) for volume in mounted)


def test_what_compose_names_is_there() -> None:
    volumes = {mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", ())}
    assert volumes == set(COMPOSE["volumes"])
    overlay = yaml.safe_load((ROOT / "docker-compose.gpu.yml").read_text())["services"]
    assert set(overlay).union(*(service.get("depends_on", ()) for service in SERVICES.values())) <= set(SERVICES)
    built = {line.split()[1].partition("=")[0] for line in INSTRUCTIONS if line.startswith("ARG")}
    assert set(SERVICES["image-analyzer"]["build"]["args"]) == built


@pytest.mark.parametrize(
    ("shell", "asked"),
    [
        ({}, "http://ollama:11434"),
        ({"OLLAMA_HOST": "0.0.0.0"}, "http://ollama:11434"),  # noqa: S104 - where a server on this machine listens
        ({"IMAGE_ANALYZER_OLLAMA": "http://host.docker.internal:11434"}, "http://host.docker.internal:11434"),
    ],
)
def test_one_ollama_is_asked_and_it_is_told_to_fetch_the_model(shell: dict[str, str], asked: str) -> None:
    assert load_settings({}, environment(shell)).ollama.hosts == (asked,)
    pull = SERVICES["ollama-pull"]
    assert pull["environment"]["OLLAMA_HOST"] == environment()["OLLAMA_HOST"]
    assert pull["command"] == [SERVICES["image-analyzer"]["environment"]["OLLAMA_MODEL"]]


@pytest.mark.serve
def test_each_config_for_one_machine_starts_in_compose_s_own_environment_and_answers_a_picture(
    inside: Path, tiny_clip: Path, ollama: FakeOllama
) -> None:
    """One start for all, each at its own prefix; the weights lie in a folder of their name, as in the image."""
    applications = {}
    for config in FOR_ONE_MACHINE:
        (application,) = yaml.safe_load((inside / config).read_text())["applications"]
        # There is no CUDA here; what the config asks of Ray for it stays.
        application["args"]["clip"].pop("precision", None)
        shutil.copytree(tiny_clip, inside / load_settings(application["args"], {}).clip.model, dirs_exist_ok=True)
        asked = [entry.get("ray_actor_options", {}).get("num_cpus", 0) for entry in application.get("deployments", ())]
        assert sum(asked) <= MACHINE_CPUS
        name = Path(config).stem
        applications[name] = application | {"name": name, "route_prefix": f"/{name}"}
    ollama.answer = Answer(tokens=["A ", "temple."])
    picture = {"image": photograph_path("china").read_bytes()}
    cpus = MACHINE_CPUS * len(applications)
    given_there = environment({"IMAGE_ANALYZER_OLLAMA": ollama.url}) | {"DEVICE": "cpu"}
    with Service(
        list(applications.values()), given_there, pretended_cpus=cpus, pretended_gpus=1, folder=inside
    ) as service:
        for name in applications:
            answer = httpx.post(f"{service.url}/{name}{ANALYZE}", files=picture, timeout=60).json()
            assert (answer["analyzer"], answer["promptSource"]) == ("clip", "ollama"), name
