"""A wrong setting is named; the environment overrides exactly four."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.errors import SettingsError
from serve_app.settings import ENVIRONMENT_OVERRIDES, load_settings


def test_the_defaults_are_the_guide_s() -> None:
    settings = load_settings({}, {})
    assert settings.clip.model == "openai/clip-vit-base-patch32"
    assert (settings.ollama.hosts, settings.ollama.model) == (("http://localhost:11434",), "mistral:latest")
    assert (settings.image.max_upload_mib, settings.image.view_size_px) == (20, 512)
    assert (settings.require_clip, settings.require_ollama) == (False, False)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ({"clip": {"modell": "x"}}, "Unknown setting 'clip.modell'; did you mean 'clip.model'?"),
        ({"requireclip": True}, "Unknown setting 'requireclip'; did you mean 'require_clip'?"),
        ({"zebra": 1}, "Unknown setting 'zebra'."),
        ({"clip": {"device": "gpu"}}, "Setting 'clip.device' is 'gpu': Input should be 'auto', 'cpu' or 'cuda'."),
        ({"image": {"max_upload_mib": "lots"}}, "Setting 'image.max_upload_mib' is 'lots'"),
        ({"clip": "x"}, "Setting 'clip' is 'x'"),
        ({"limits": {"heartbeat_s": 0}}, "Setting 'limits.heartbeat_s' is 0: Input should be greater than 0."),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_wrong(args: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError) as error:
        load_settings(args, {})
    assert sentence in str(error.value)


def test_the_environment_overrides_the_config() -> None:
    environment = {
        "DEVICE": "cpu",
        "CLIP_MODEL_NAME": "a/b",
        "OLLAMA_HOST": "http://ollama:1234",
        "OLLAMA_MODEL": "llama3",
        "OLLAMA_TOP_P": "0.1",
    }
    settings = load_settings({"clip": {"device": "cuda", "top_labels": 5}}, environment)
    assert (settings.clip.device, settings.clip.model, settings.clip.top_labels) == ("cpu", "a/b", 5)
    assert (settings.ollama.hosts, settings.ollama.model) == (("http://ollama:1234",), "llama3")
    assert settings.ollama.top_p == 0.9
    assert set(environment) > set(ENVIRONMENT_OVERRIDES)


def test_a_wrong_environment_variable_is_named_and_an_empty_one_overrides_nothing() -> None:
    with pytest.raises(SettingsError, match="environment variable DEVICE"):
        load_settings({}, {"DEVICE": "tpu"})


@pytest.mark.parametrize(
    ("spelt", "meant"), [("CPU", "cpu"), (" Cuda ", "cuda"), ("cuda:0", "cuda"), ("CUDA:0", "cuda"), ("AUTO", "auto")]
)
def test_a_device_may_be_spelt_as_elsewhere(spelt: str, meant: str) -> None:
    assert load_settings({}, {"DEVICE": spelt}).clip.device == meant
    assert load_settings({"clip": {"model": "a/b"}}, {"CLIP_MODEL_NAME": ""}).clip.model == "a/b"
