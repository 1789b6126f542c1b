"""What is known of a picture once it was decoded and read, and how the API says it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from deployments.types import Classification, Swatch
from serve_app.schemas import AnalysisBody, Colour, ScoredLabel

SCORE_DECIMALS = 4
"""A tenth of the closest that two correct computations of a score agree to."""


@dataclass(frozen=True)
class View:
    """What the model read in a picture, and its measured palette. What answers say of it is made once and kept."""

    reading: Classification
    palette: tuple[Swatch, ...]

    @cached_property
    def analysis(self) -> AnalysisBody:
        """The best labels of each category, scores rounded."""
        return AnalysisBody(
            **{
                category: [ScoredLabel(value=label.value, score=round(label.score, SCORE_DECIMALS)) for label in labels]
                for category, labels in self.reading.scores.items()
            }
        )

    @cached_property
    def colours(self) -> list[Colour]:
        """The palette."""
        return [Colour(hex=swatch.hex, share=swatch.share) for swatch in self.palette]
