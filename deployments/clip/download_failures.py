"""What went wrong with a download, as a sentence and a remedy."""

from __future__ import annotations

import errno
from http import HTTPStatus
from pathlib import Path

import httpx2
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from deployments.clip.weights import WeightsUnavailable

_NO_MODEL_STATUSES = (HTTPStatus.NOT_FOUND, HTTPStatus.UNAUTHORIZED)
_RETRIED = "The download is tried again by itself"
_REFUSAL = "Invalid credentials in Authorization header"
"""The hub's words for it; its other 401 answers stand for a name that does not exist."""
_UNREACHED = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError, httpx2.UnsupportedProtocol)


def no_hub(hub: str) -> WeightsUnavailable:
    """Say that something answers at the hub's address which is no hub: a proxy's login page, a plain server."""
    return WeightsUnavailable(
        f"What answers at {hub} is not a model hub.",
        f"Check HF_ENDPOINT and the network's proxy. {_RETRIED}.",
        permanent=False,
    )


def explain(error: Exception, model: str, hub: str, cache: Path) -> WeightsUnavailable:
    """Turn an error of huggingface_hub, its HTTP client or the disk into one that names `hub` or `cache`."""
    if isinstance(error, OfflineModeIsEnabled):
        return WeightsUnavailable(
            f"'{model}' is not in the cache {cache}, and HF_HUB_OFFLINE forbids fetching it.",
            "Unset HF_HUB_OFFLINE, or set clip.model to a local folder.",
            permanent=True,
        )
    if isinstance(error, GatedRepoError):
        return WeightsUnavailable(
            f"'{model}' on the hub at {hub} is gated and this account has no access to it.",
            "Accept its terms on the hub and set HF_TOKEN to a token of that account.",
            permanent=False,
        )
    if isinstance(error, HfHubHTTPError):
        return _explain_status(error, model, hub)
    if isinstance(error, _UNREACHED):
        return WeightsUnavailable(
            f"The hub at {hub} cannot be reached to fetch '{model}' ({error}).",
            f"Check the network and HF_ENDPOINT, or set clip.model to a local folder. {_RETRIED}.",
            permanent=False,
        )
    if isinstance(error, httpx2.RequestError):
        return WeightsUnavailable(
            f"The download of '{model}' from the hub at {hub} broke off ({type(error).__name__}).",
            f"{_RETRIED} and goes on where it stopped.",
            permanent=False,
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return WeightsUnavailable(
            f"The disk of the cache {cache} has no room for '{model}'.",
            f"Free some space, or set HF_HOME to a folder on a larger disk. {_RETRIED}.",
            permanent=False,
        )
    return WeightsUnavailable(
        f"The files of '{model}' cannot be read or written ({error}).",
        f"Make the folder readable and writable, or set HF_HOME to another. {_RETRIED}.",
        permanent=False,
    )


def _explain_status(error: HfHubHTTPError, model: str, hub: str) -> WeightsUnavailable:
    status = error.response.status_code
    if error.response.headers.get("X-Error-Message") == _REFUSAL:
        return WeightsUnavailable(
            f"The hub at {hub} refuses the access token for '{model}'.",
            "Correct or unset HF_TOKEN.",
            permanent=True,
        )
    if status == HTTPStatus.FORBIDDEN:
        return WeightsUnavailable(
            f"The hub at {hub}, or a proxy on the way to it, forbids fetching '{model}'.",
            f"Check the proxy, and HF_TOKEN if it is set. {_RETRIED}.",
            permanent=False,
        )
    if isinstance(error, RepositoryNotFoundError) or status in _NO_MODEL_STATUSES:
        return WeightsUnavailable(
            f"No model named '{model}' on the hub at {hub}, and no local folder of that name.",
            "Check clip.model; a private model needs HF_TOKEN.",
            permanent=True,
        )
    return WeightsUnavailable(
        f"The hub at {hub} answers with status {status} when asked for '{model}'.",
        f"{_RETRIED}.",
        permanent=False,
    )
