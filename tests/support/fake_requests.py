"""What a fake Ollama refuses before any runner hears of it, as recorded (tests/recordings)."""

from __future__ import annotations

from typing import Any

from tests.support.fake_models import Model
from tests.support.fake_runner import Refusal
from tests.support.ollama_wire import Json

CLOUD = (":cloud", "-cloud")
FLOATS = ("temperature", "top_p", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty")
TOKEN_CHARS, PICTURE_TOKENS = 4, 576


def refuse_malformed(body: Any) -> None:
    """Refuse what is no request.

    Raises:
        Refusal: its body is no object, or its model is in the cloud, to which there is no way.
    """
    if not isinstance(body, dict):
        raise Refusal(400, "json: cannot unmarshal string into Go value of type api.ChatRequest")
    if body["model"].endswith(CLOUD):
        raise Refusal(502, 'Post "https://cloud.invalid/api/chat": dial tcp: lookup cloud.invalid: no such host')


def refuse_unable(body: Json, model: Model) -> None:
    """Refuse what a model cannot.

    Raises:
        Refusal: it does not chat, or is to think and cannot (not to think, anyone can); an option is of a wrong type.
    """
    if "completion" not in model.capabilities:
        raise Refusal(400, f'"{body["model"]}" does not support chat')
    if body.get("think") and not model.thinks:
        raise Refusal(400, f'"{body["model"]}" does not support thinking')
    for name, value in (body.get("options") or {}).items():
        if name in FLOATS and not isinstance(value, int | float):
            raise Refusal(500, f'option "{name}" must be of type float32')


def prompt_tokens(body: Json, pictures: int) -> int:
    """Estimate what a chat's messages come to."""
    chars = sum(len(message.get("content") or "") for message in body["messages"])
    return chars // TOKEN_CHARS + pictures * PICTURE_TOKENS
