"""The ranking of docs/tags.md, line by line in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def plain_deviations(picture: NDArray[Any], references: NDArray[Any], phrases: NDArray[Any]) -> NDArray[np.float64]:
    """Give each phrase's z; all are unit vectors, a row each."""
    picture, references, phrases = (each.astype(np.float64) for each in (picture, references, phrases))
    among = references @ references.T
    np.fill_diagonal(among, np.nan)
    mean, spread = np.nanmean(among, axis=1), np.nanstd(among, axis=1)
    slope, middle = np.polyfit(mean, references @ picture, 1)
    around = (references @ picture - middle - slope * mean).std()
    of_phrases = phrases @ references.T
    of_phrases[of_phrases > 1 - 1e-5] = np.nan
    expected = middle + slope * np.nanmean(of_phrases, axis=1)
    width = around * np.nanstd(of_phrases, axis=1) / spread.mean()
    deviations: NDArray[np.float64] = (phrases @ picture - expected) / width
    return deviations
