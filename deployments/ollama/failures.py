"""What can go wrong between this room and Ollama; none of it leaves the room under these names."""

from __future__ import annotations


class OllamaFailure(Exception):
    """Ollama did not write the prompt. `reason` says what happened, `remedy` what to do: one sentence each."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason} {remedy}")
        self.reason = reason
        self.remedy = remedy


class ServerDown(OllamaFailure):
    """Nothing accepts a connection at the address."""


class ModelMissing(OllamaFailure):
    """The server is there, the model is not."""


class ServerFailed(OllamaFailure):
    """The server answered with an error, broke off, or sent what is not its protocol."""


class TookTooLong(OllamaFailure):
    """The first token, the next token or the whole prompt passed its limit."""
