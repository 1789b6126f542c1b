"""How the systems are started."""

from __future__ import annotations

import yaml

from benchmarks.systems import NO_OLLAMA, SERVE_CONFIG, our_config


def test_our_service_runs_as_shipped_but_for_model_port_and_ollama() -> None:
    shipped = yaml.safe_load(SERVE_CONFIG.read_text())
    ours = yaml.safe_load(our_config(SERVE_CONFIG, 18150, {"clip": {"model": "/model"}, "ollama": NO_OLLAMA}))

    assert ours["http_options"].pop("port") == 18150
    assert ours["applications"][0]["args"]["clip"].pop("model") == "/model"
    del ours["applications"][0]["args"]["ollama"]["hosts"]
    del shipped["http_options"]["port"]
    del shipped["applications"][0]["args"]["clip"]["model"]
    del shipped["applications"][0]["args"]["ollama"]["hosts"]
    assert ours == shipped
