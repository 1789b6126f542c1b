"""A picture's reading, and what the writer made of a request."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from deployments.types import (
    LabelScore,
    PromptComplete,
    PromptDelta,
    PromptEvent,
    PromptOptions,
    PromptRequest,
    PromptRestart,
    Scores,
    Swatch,
)

MOUNTAINS = PromptRequest(
    scores={
        "style": (LabelScore("photorealistic", 0.62), LabelScore("modern", 0.2), LabelScore("vintage", 0.05)),
        "mood": (LabelScore("calm", 0.4), LabelScore("peaceful", 0.35), LabelScore("epic", 0.1)),
        "composition": (LabelScore("wide angle", 0.5), LabelScore("depth", 0.3), LabelScore("minimal", 0.1)),
        "color_palette": (LabelScore("earth tones", 0.5), LabelScore("muted", 0.2)),
        "subjects": (LabelScore("mountains", 0.5), LabelScore("landscape", 0.3), LabelScore("forest", 0.1)),
    },
    palette=(Swatch("#4a3220", 0.4), Swatch("#4682b4", 0.3)),
)


def mountains(scores: Scores = MOUNTAINS.scores, **options: Any) -> PromptRequest:
    """The same picture, or one with other scores, asked for differently."""
    return replace(MOUNTAINS, scores=scores, options=PromptOptions(**options))


async def collected(events: AsyncGenerator[PromptEvent, None]) -> list[PromptEvent]:
    """Read a stream to its end."""
    async with aclosing(events):
        return [event async for event in events]


def text_of(events: list[PromptEvent]) -> str:
    """What a reader has on the screen once the stream has ended."""
    text = ""
    for event in events:
        match event:
            case PromptDelta(piece):
                text += piece
            case PromptRestart():
                text = ""
    return text


def outcome(events: list[PromptEvent]) -> PromptComplete:
    """The last event, which must be the complete prompt and the only one of its kind."""
    complete = [event for event in events if isinstance(event, PromptComplete)]
    assert complete == events[-1:]
    return complete[0]
