"""Names of models, compared as Ollama compares them (its package `types/model`)."""

from __future__ import annotations

DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
CLOUD = "-cloud"
OWN_REGISTRY = "ollama"
"""A label of the name of Ollama's own registry, which Ollama leaves out of the names that it lists."""


def tagged(name: str) -> str:
    """Give a name with its tag: without one it means `:latest`."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:{DEFAULT_TAG}"


def is_same(one: str, other: str) -> bool:
    """Tell whether two names mean one model: `Mistral`, `library/mistral` and `mistral:latest` do."""
    return in_full(one) == in_full(other)


def is_remote(name: str) -> bool:
    """Tell whether a model of this name runs at ollama.com, to which its server passes on whatever it is told."""
    _, model, tag = in_full(name)
    return tag == "cloud" or tag.endswith(CLOUD) or model.endswith(CLOUD)


def in_full(name: str) -> tuple[str, str, str]:
    """Give registry and namespace, model, and tag, equal for all names of one model."""
    path, _, tag = tagged(name.lower().rpartition("://")[2]).rpartition(":")
    place, _, model = path.rpartition("/")
    registry, _, namespace = place.rpartition("/")
    registry = "" if OWN_REGISTRY in registry.split(".") else registry
    return f"{registry}/{namespace or DEFAULT_NAMESPACE}", model, tag
