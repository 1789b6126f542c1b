"""The models of a fake Ollama, as its two versions list, show and count them (tests/recordings)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tests.support.ollama_wire import LONG_AGO, Json

Version = Literal["0.33.0", "0.24.0"]

MODEL_BYTES = 4_113_301_824
DEFAULT_CONTEXT, TOWER_CONTEXT = 4096, 2048
"""What a model is given unless `num_ctx` says otherwise, and at least where it has a tower."""

DETAILS: Json = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "7.2B",
    "quantization_level": "Q4_0",
}


@dataclass(frozen=True)
class Model:
    """What it is called and can do."""

    name: str
    capabilities: Sequence[str]

    @property
    def sees(self) -> bool:
        """Whether it has a picture tower."""
        return "vision" in self.capabilities

    @property
    def thinks(self) -> bool:
        """Whether it thinks unless it is told not to."""
        return "thinking" in self.capabilities

    def context(self, num_ctx: int | None) -> int:
        """Tell how many tokens it is given."""
        return max(num_ctx or DEFAULT_CONTEXT, TOWER_CONTEXT if self.sees else 0)

    def listed(self, version: Version) -> Json:
        """Give its entry in `/api/tags`; only the newer tells there what it can."""
        details, more = DETAILS, {}
        if version == "0.33.0":
            details = DETAILS | {"context_length": 8192, "embedding_length": 576}
            more = {"capabilities": list(self.capabilities)}
        size = {"modified_at": LONG_AGO, "size": MODEL_BYTES, "digest": "f5" * 32}
        return {"name": self.name, "model": self.name} | size | {"details": details} | more

    def shown(self) -> Json:
        """Give the answer of `/api/show`."""
        shown: Json = {"modelfile": "FROM it", "parameters": "stop", "template": "{{ .Prompt }}", "details": DETAILS}
        shown |= {"model_info": {"general.architecture": "llama"}, "modified_at": LONG_AGO}
        return shown | {"capabilities": list(self.capabilities)} | ({"projector_info": {}} if self.sees else {})

    def running(self, gpu_share: float, context: int) -> Json:
        """Give its entry in `/api/ps`."""
        entry = {"name": self.name, "model": self.name, "size": MODEL_BYTES, "digest": "f5" * 32, "details": DETAILS}
        in_use = {"expires_at": LONG_AGO, "size_vram": int(MODEL_BYTES * gpu_share), "context_length": context}
        return entry | in_use
