"""Every shipped config is what Serve, the settings model and the built application understand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from deployments.clip.deployment import ClipDeployment
from deployments.ollama.deployment import OllamaDeployment
from serve_app.cli.config import DEPLOYMENTS, read_config
from serve_app.ingress import Ingress
from serve_app.middleware.auth import KEYS_VARIABLE

ROOT = Path(__file__).parents[1]
CONFIGS = [ROOT / "serve_config.yaml", *sorted(path for path in (ROOT / "configs").glob("*.yaml"))]
SERVE_CONFIGS = [path for path in CONFIGS if path.name not in ("labels.yaml", "targets.yaml", "kuberay.yaml")]
"""The cluster's is started by tests/cluster/, the others by tests/test_containers.py."""


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


@pytest.mark.parametrize("path", SERVE_CONFIGS, ids=lambda path: path.name)
def test_a_config_is_understood_by_serve_and_by_us(path: Path) -> None:
    config = load(path)
    # Serve ignores top-level keys that it does not know.
    assert set(config) <= set(ServeDeploySchema.model_fields)
    ServeDeploySchema.model_validate(config)
    settings = read_config(path, {KEYS_VARIABLE: "0123456789abcdef"}).settings
    # Serve's own timeout leaves room for ours.
    assert settings.limits.total_timeout_s >= settings.limits.analysis_timeout_s + settings.ollama.total_timeout_s
    ours_s = settings.limits.upload_timeout_s + settings.limits.total_timeout_s
    assert config["http_options"]["request_timeout_s"] >= ours_s + 30


def test_the_command_knows_the_deployments_by_their_names() -> None:
    assert set(DEPLOYMENTS) == {cls.__name__ for cls in (ClipDeployment, OllamaDeployment, Ingress)}


def imports(folder: str) -> Iterator[tuple[str, str]]:
    """Give each file below a folder, and what it imports at its top."""
    for path in (ROOT / folder).rglob("*.py"):
        for line in path.read_text().splitlines():
            if line.startswith(("import ", "from ")):
                yield str(path.relative_to(ROOT)), line.split()[1]


def test_only_the_edge_imports_ray_and_each_deployment_keeps_to_its_room() -> None:
    edge = {"serve_app/app.py", "serve_app/ingress.py", "serve_app/cli/cluster.py"}
    edge |= {f"deployments/{room}/deployment.py" for room in ("clip", "ollama")}
    everything = [*imports("serve_app"), *imports("deployments")]
    assert {path for path, name in everything if name.split(".")[0] == "ray"} <= edge
    for room, forbidden in (("clip", "ollama"), ("ollama", "clip")):
        inside = [name for _, name in imports(f"deployments/{room}")]
        assert [name for name in inside if name.startswith((f"deployments.{forbidden}", "serve_app"))] == []


def test_composing_the_application_does_not_wait_for_torch() -> None:
    told = "import serve_app.app, sys; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", told], capture_output=True, text=True).stdout == "[]\n"
