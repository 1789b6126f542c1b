"""What a config says, and the sentence for each way it can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.errors import SettingsError
from serve_app.cli.config import read_config
from tests.serve_app.cli.conftest import write_config

REPOSITORY = Path(__file__).parents[3]


def test_the_default_config_is_well() -> None:
    config = read_config(REPOSITORY / "serve_config.yaml", {})
    assert config.url == "http://127.0.0.1:8000"
    assert not config.open_to_others
    assert config.settings.clip.model == "openai/clip-vit-base-patch32"


def test_the_environment_is_laid_over_it(tmp_path: Path) -> None:
    config = read_config(write_config(tmp_path, port=1), {"OLLAMA_HOST": "http://gpu-box:11434"})
    assert config.settings.ollama.hosts == ("http://gpu-box:11434",)


@pytest.mark.parametrize(
    ("http_options", "url", "open_to_others"),
    [
        ("{host: 0.0.0.0, port: 81}", "http://127.0.0.1:81/v1", True),
        ("{host: '::', port: 81}", "http://[::1]:81/v1", True),
        ("{host: 10.1.2.3}", "http://10.1.2.3:8000/v1", False),
        ("null", "http://127.0.0.1:8000/v1", True),
    ],
)
def test_the_address_is_one_that_this_machine_reaches(
    tmp_path: Path, http_options: str, url: str, open_to_others: bool
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        f"http_options: {http_options}\napplications: [{{import_path: 'serve_app.app:build', route_prefix: /v1}}]"
    )
    config = read_config(path, {})
    assert (config.url, config.open_to_others) == (url, open_to_others)


def ours(more: str) -> str:
    return f"applications: [{{import_path: 'other:app'}}, {{import_path: 'serve_app.app:build', {more}}}]"


NONE_OF_OURS = "has no application whose import_path is serve_app.app:build"
NO_KEYS = "access.require_key is set: name an access.keys_file, or set IMAGE_ANALYZER_API_KEYS."


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("applications: [", "is not YAML"),
        ("just text", "must be names and values"),
        ("", NONE_OF_OURS),
        ("applications: [{import_path: 'other:app', args: {anything: goes}}]", NONE_OF_OURS),
        (ours("args: 3"), "args must be names and values"),
        (
            ours("deployments: [{name: ClipDeploymnt}]"),
            "names a deployment 'ClipDeploymnt': there are ClipDeployment, OllamaDeployment, Ingress.",
        ),
        (
            ours("deployments: [{name: ClipDeployment, user_config: {batch: 4}}]"),
            "ClipDeployment: user_config: batch: Extra inputs are not permitted.",
        ),
        (ours("deployments: [{name: Ingress, user_config: {max_batch_size: 4}}]"), "Ingress takes no user_config"),
        (ours("args: {clip: {modle: x}}"), "did you mean 'clip.model'?"),
        (ours("args: {}}, {import_path: 'serve_app.app:build', args: {clpi: {}}"), "did you mean 'clip'"),
        (ours("args: {clip: {top_labels: 3, top_labels: 5}}"), "line 1 and after: 'top_labels' stands twice"),
        (ours("args: {clip: {labels_file: /no/such.yaml}}"), "/no/such.yaml cannot be read"),
        (ours("args: {clip: {vocabulary: [/no/such]}}"), "folder /no/such is missing or holds no .txt file"),
        (ours("args: {clip: {tag_templates: [a photo]}}"), 'the template has no "{phrase}" in it'),
        (ours("args: {ollama: {targets_file: /no/such.yaml}}"), "/no/such.yaml cannot be read"),
        (
            ours("args: {ollama: {target: dalle}}"),
            "Setting 'ollama.target' is 'dalle', and the targets are prose, caption,",
        ),
        (
            ours("deployments: [{name: OllamaDeployment, user_config: {targets: {}}}]"),
            "OllamaDeployment: user_config: targets: Value error, prose must be there",
        ),
        (ours("args: {access: {keys_file: /no/keys.txt}}"), "The key file /no/keys.txt cannot be read"),
        (ours("args: {access: {require_key: true}}"), NO_KEYS),
        (f"http_options: {{port: eighty}}\n{ours('')}", "is 'eighty'"),
        (f"http_options: {{port: 70000}}\n{ours('')}", "from 1 to 65535"),
    ],
)
def test_a_wrong_config_is_told_in_a_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(content)
    with pytest.raises(SettingsError) as told:
        read_config(path, {})
    assert sentence in str(told.value)


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"There is no config file .*absent\.yaml\."):
        read_config(tmp_path / "absent.yaml", {})
