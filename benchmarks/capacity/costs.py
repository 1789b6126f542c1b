"""What each step of a request costs, as the simulation takes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Costs:
    """CPU times in ms, on a core of the machine that they were measured on.

    Args:
        client_ms: of the caller, for each request.
        proxy_ms: HAProxy, for each request.
        decode_ms: decoding and shrinking a picture, in a thread.
        ingress_ms: all else that the ingress does for a request, in its event loop.
        ingress_call_ms: of the ingress, for each call to CLIP, however many pictures it carries.
        clip_ms: of the CLIP replica for each picture, besides the forward pass.
        clip_call_ms: of the CLIP replica for each call.
        background_cores: what Ray's own processes take of a machine all the time.
        alone_ms: wall time of a batch that has all cores to itself, by its size.
        beside_ms: wall time of a batch on one core, by its size.
        token_ms: by role, for each token of a streamed prompt.
    """

    client_ms: float
    proxy_ms: float
    decode_ms: float
    ingress_ms: float
    ingress_call_ms: float
    clip_ms: float
    clip_call_ms: float
    background_cores: float
    alone_ms: Mapping[int, float]
    beside_ms: Mapping[int, float]
    token_ms: Mapping[str, float]


def between(measured: Mapping[int, float], size: int) -> float:
    """Give the value for a size by straight lines between those measured."""
    return float(np.interp(size, list(measured), list(measured.values())))
