"""The tables of docs/configuration.md, made from the settings models: `python -m tests.support.settings_table`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from benchmarks.report import filled
from deployments.clip.settings import DEFAULT_LABELS_FILE, DEFAULT_VOCABULARY, ClipUserConfig
from deployments.ollama.settings import DEFAULT_TARGETS_FILE
from deployments.ollama.targets import OllamaUserConfig
from serve_app.settings import Settings

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


def tables() -> dict[str, str]:
    """Give each section's table as Markdown."""
    sections: dict[str, type[BaseModel]] = {
        name: field.annotation
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    top = {name: field for name, field in Settings.model_fields.items() if name not in sections}
    made = {"top": _table("", top), "user_config": _table("", ClipUserConfig.model_fields)}
    made["ollama_user_config"] = _table("", OllamaUserConfig.model_fields)
    return made | {name: _table(f"{name}.", model.model_fields) for name, model in sections.items()}


def _table(prefix: str, fields: dict[str, FieldInfo]) -> str:
    rows = [
        f"| `{prefix}{name}` | {_default(field.get_default())} | {field.description} |"
        for name, field in fields.items()
    ]
    return "\n".join(["| setting | default | |", "| --- | --- | --- |", *rows])


def _default(value: Any) -> str:
    if value in (DEFAULT_LABELS_FILE, DEFAULT_TARGETS_FILE, (DEFAULT_VOCABULARY,)):
        path = value[0] if isinstance(value, tuple) else value
        return f"`configs/{path.name}`"
    if value is None or value in ((), {}, ""):
        return "none"
    if isinstance(value, tuple):
        return f"`[{', '.join(value)}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    DOCUMENT.write_text(filled(DOCUMENT.read_text(), tables()))
