"""What Ollama sends, as far as it is read here, and the sentence inside its errors."""

from __future__ import annotations

import json

from pydantic import BaseModel

SHOWN_ERROR_CHARS = 200
"""How much of the server's own error text is passed on: enough for its sentence, not for a page of HTML."""

WRITES = "completion"
"""The capability of a model that writes; one for embeddings lacks it."""


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


class ModelList(BaseModel):
    """The answer of `/api/tags`."""

    models: tuple[ListedModel, ...]


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
