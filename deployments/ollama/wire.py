"""What Ollama sends, as far as it is read here, and the sentence inside its errors."""

from __future__ import annotations

import json

from pydantic import BaseModel

SHOWN_ERROR_CHARS = 200
"""How much of the server's own error text is passed on: enough for its sentence, not for a page of HTML."""

WRITES, THINKS, SEES = "completion", "thinking", "vision"
"""Capabilities of a model; one for embeddings lacks the first."""


class ShownModel(BaseModel, frozen=True):
    """What `/api/show` says of a model."""

    capabilities: tuple[str, ...] | None = None

    @property
    def writes(self) -> bool:
        """Whether it can, as far as is told."""
        return not self.capabilities or WRITES in self.capabilities


class ListedModel(ShownModel):
    """A model in `/api/tags`. Ollama tells capabilities there since about 0.25, in `/api/show` long before."""

    model: str
    digest: str | None = None
    size: int | None = None
    """Bytes on the disk."""


class ModelList(BaseModel):
    """The answer of `/api/tags`."""

    models: tuple[ListedModel, ...]


class RunningModel(BaseModel, frozen=True):
    """A model in `/api/ps`: in memory, of which so many bytes are a GPU's."""

    model: str
    size: int = 0
    size_vram: int = 0

    @property
    def gpu_share(self) -> float:
        """How much of it is on a GPU, 0 to 1; a CPU's has 0."""
        return min(1.0, self.size_vram / self.size) if self.size > 0 else 0.0


class RunningList(BaseModel):
    """The answer of `/api/ps`."""

    models: tuple[RunningModel, ...]


class ServerVersion(BaseModel):
    """The answer of `/api/version`."""

    version: str


def error_sentence(error: object) -> str:
    """Take the sentence out of an error: Ollama wraps its runner's in JSON, twice, and other servers in other ways.

    `{"error": "{\"error\": {\"code\": 400, \"message\": \"…\"}}"}` is what Ollama 0.33 sends.
    """
    if isinstance(error, dict):
        return error_sentence(error.get("error") or error.get("message") or "")
    if not isinstance(error, str):
        return ""
    try:
        inner = json.loads(error)
    except (ValueError, RecursionError):
        inner = None
    return error_sentence(inner) if isinstance(inner, dict) else " ".join(error.split())[:SHOWN_ERROR_CHARS]
