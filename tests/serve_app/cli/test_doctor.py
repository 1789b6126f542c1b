"""Each check, well and not well."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import httpx
import pytest
import torch

from deployments.clip.settings import ClipSettings
from deployments.clip.weights import WeightsUnavailable
from deployments.ollama.settings import OllamaSettings
from serve_app.cli import checks
from serve_app.cli.config import ServiceConfig
from serve_app.cli.doctor import Finding, check_packages, check_python, examine, report, runtime_requirements
from serve_app.cli.ray_env import BINARY, SWITCH
from tests.serve_app.cli.conftest import answering, health_answer, write_config
from tests.support.fake_ollama import FakeOllama


def test_a_finding_shows_its_remedy_below_and_one_fault_makes_the_exit_status_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    well, fault = Finding("Python", True, "3.11.7"), Finding("Ollama", False, "is down", "ollama serve")
    assert (report([well]), report([well, fault])) == (0, 1)
    shown = "✓ Python: 3.11.7"
    assert capsys.readouterr().out.split() == (
        f"{shown} All is well. {shown} ✗ Ollama: is down → ollama serve 1 to mend; → says how.".split()
    )


@pytest.mark.parametrize(("version", "well"), [(sys.version_info[:3], True), ((3, 12, 0), True), ((3, 10, 14), False)])
def test_python(version: tuple[int, int, int], well: bool) -> None:
    assert check_python(version).ok is well


def test_packages() -> None:
    def version_of(name: str) -> str:
        if name != "ray":
            raise importlib.metadata.PackageNotFoundError(name)
        return "2.60.0"

    assert check_packages(["ray"], version_of) == Finding("Packages", True, "ray 2.60.0")
    missing = check_packages(["ray", "torch", "ollama"], version_of)
    assert (missing.ok, missing.detail) == (False, "not installed: torch, ollama")
    assert "make install" in missing.remedy
    assert not check_packages([], version_of).ok


def test_the_requirements_are_the_services_own() -> None:
    names = runtime_requirements()
    assert {"ray", "torch"} <= set(names)
    assert "pytest" not in names


def test_a_wrong_config_ends_the_examination(tmp_path: Path) -> None:
    findings = list(examine(write_config(tmp_path, port=1, args="{clip: {modle: x}}")))
    assert [findings[0].name, findings[1].name, findings[-1].name] == ["Python", "Packages", "Config"]
    assert "did you mean 'clip.model'" in findings[-1].detail


def no_gpu_asked() -> tuple[int, int]:
    pytest.fail("asked a GPU for its memory where there is none")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("settings", "well", "told"),
    [
        (ClipSettings(device="cpu", precision="float32"), True, "cpu, float32"),
        (ClipSettings(), True, "no CUDA GPU: CLIP runs on the CPU"),
        (ClipSettings(device="cuda"), False, "DEVICE=cpu"),
    ],
)
def test_without_a_gpu_all_is_well_unless_one_is_asked_for(settings: ClipSettings, well: bool, told: str) -> None:
    (finding,) = checks.check_device(settings, no_gpu_asked)
    assert (finding.ok, told in finding.detail + finding.remedy) == (well, True)


def test_gpu_memory() -> None:
    assert checks.check_gpu_memory(3_000_000_000, 4_000_000_000).ok
    full = checks.check_gpu_memory(200_000_000, 4_000_000_000)
    assert (full.ok, full.detail) == (False, "200 MB free of 4000 MB; CLIP needs about 1400 MB")
    assert "nvidia-smi" in full.remedy


def test_weights(tmp_path: Path) -> None:
    absent = checks.check_weights(ClipSettings(model="owner/name"), tmp_path)
    assert not absent.ok
    assert str(tmp_path) in absent.detail
    assert "image-analyzer serve" in absent.remedy
    folder = tmp_path / "clip"
    folder.mkdir()
    partial = checks.check_weights(ClipSettings(model=str(folder)))
    assert (partial.ok, partial.detail) == (False, f"The model folder {folder} has no config.json.")
    for name in ("preprocessor_config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).touch()
    (folder / "config.json").write_text('{"model_type": "clip"}')
    assert checks.check_weights(ClipSettings(model=str(folder))).ok
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    assert "lfs pull" in checks.check_weights(ClipSettings(model=str(folder))).remedy


def no_such_model(model: str, hub: str) -> dict[str, int]:
    raise WeightsUnavailable("No such model.", "Check clip.model.", permanent=True)


def test_the_hub() -> None:
    settings = ClipSettings(model="owner/name")
    files = {"model.safetensors": 605_000_000, "config.json": 4_000}
    there = checks.check_hub(settings, needed=True, announced=lambda model, hub: files)
    assert there.ok
    assert there.detail.endswith("has owner/name, 605 MB")
    told = checks.check_hub(settings, needed=True, announced=no_such_model)
    assert (told.ok, told.detail, told.remedy) == (False, "No such model.", "Check clip.model.")
    assert checks.check_hub(settings, needed=False, announced=no_such_model).ok


def test_weights_that_are_neither_here_nor_to_be_had_are_one_fault(tmp_path: Path) -> None:
    settings = ClipSettings(model="owner/name")
    found = [*checks.check_model(settings, tmp_path, no_such_model)]
    (fault,) = (finding for finding in found if not finding.ok)
    assert (fault.name, "No such model." in fault.detail) == ("CLIP weights", True)
    assert fault.remedy.startswith("Check clip.model; image-analyzer serve fetches them by itself")


EMBEDDER = {"model": "nomic-embed-text:latest", "capabilities": ["embedding"]}


def ollama(answer: httpx.Response | Exception) -> list[Finding]:
    def handler(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    settings = OllamaSettings(hosts=("http://localhost:11434",), model="mistral")
    return list(checks.check_ollama(settings, httpx.MockTransport(handler)))


def listing(*models: str) -> httpx.Response:
    return httpx.Response(200, json={"models": [{"model": model} for model in models]})


def test_ollama_with_the_model_without_it_and_none() -> None:
    server, model, vision = ollama(listing("llava:7b", "mistral:latest"))
    assert vision.ok
    assert vision.detail.startswith("auto does not look: mistral may not see pictures")
    assert server == Finding("Ollama", True, "answers at http://localhost:11434")
    assert (model.ok, model.detail) == (True, "mistral:latest; can: unknown; loaded, 0% of it on a GPU")
    server, model = ollama(listing("llava:7b"))
    assert (server.ok, model.ok) == (True, False)
    assert "ollama pull mistral" in model.remedy
    server, model = ollama(httpx.Response(200, json={"models": [EMBEDDER, {"model": "gemma3:4b"}]}))
    assert (server.ok, model.ok, model.detail) == (True, False, "Ollama has no model mistral.")
    assert model.remedy.endswith("one that is there: gemma3:4b")
    (server,) = ollama(httpx.Response(404, text="404 page not found"))
    assert (server.ok, "OLLAMA_HOST" in server.remedy) == (False, True)
    (server,) = ollama(httpx.ConnectError("refused"))
    assert not server.ok
    assert "http://localhost:11434" in server.detail
    assert "ollama serve" in server.remedy


@pytest.mark.parametrize(
    ("vision_model", "seers", "ok", "told"),
    [
        ("", ["mistral"], True, "auto does not look: mistral:latest has not been loaded yet"),
        ("", [], True, "auto does not look: mistral:latest does not see pictures."),
        ("gemma3:4b", [], False, "Ollama has no model gemma3:4b."),
    ],
)
def test_who_looks_at_pictures_and_how_to_fetch_who_is_to(
    vision_model: str, seers: list[str], ok: bool, told: str
) -> None:
    with FakeOllama(seers=seers) as server:
        settings = OllamaSettings(hosts=(server.url,), vision_model=vision_model)
        *_, vision = checks.check_ollama(settings)
    assert (vision.name, vision.ok) == ("Vision", ok)
    assert vision.detail.startswith(told)
    assert ok or vision.remedy.endswith("ollama pull gemma3:4b")


def test_a_port_that_is_free_that_another_program_has_and_that_the_service_has(config: ServiceConfig) -> None:
    assert checks.check_port(config) == Finding(f"Port {config.port}", True, "free")
    with answering(config, b"hello"):
        finding = checks.check_port(config)
    assert (finding.ok, f"lsof -i :{config.port}" in finding.remedy) == (False, True)
    with answering(config, health_answer().model_dump_json().encode()):
        finding = checks.check_port(config)
    assert (finding.ok, finding.detail) == (True, f"the service answers at {config.url}, health degraded")


def test_both_modes_are_well_and_told() -> None:
    environment = {BINARY: sys.executable}
    assert checks.check_mode("127.0.0.1", {SWITCH: "0"}) == Finding("Mode", True, f"plain: {SWITCH} is '0'")
    if sys.platform == "linux":
        assert checks.check_mode("127.0.0.1", environment) == Finding("Mode", True, f"fast, with {sys.executable}")
