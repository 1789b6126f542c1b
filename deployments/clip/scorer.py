"""From logits to an analysis: a softmax within each category, and its best labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deployments.clip.labels import LabelSet
from deployments.types import Analysis, LabelScore


def score(logits: NDArray[np.float32], labels: LabelSet, top: int) -> Analysis:
    """Rank one picture's labels.

    Args:
        logits: float32, (labels,), in the order of `labels.texts()`; `-inf` rules a label out.
        labels: the set that the logits were made with.
        top: how many labels per category to keep.

    Returns:
        Category → its `top` labels, best first; the scores are shares of the whole category's softmax,
        so they add up to less than 1 where the category has more labels than `top`.
    """
    analysis: dict[str, tuple[LabelScore, ...]] = {}
    for name, category, columns in labels.categories():
        shares = _softmax(logits[columns])
        best = np.argsort(-shares, kind="stable")[:top]
        analysis[name] = tuple(LabelScore(category.labels[i], float(shares[i])) for i in best)
    return analysis


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    exponentials = np.exp(logits.astype(np.float64) - logits.max())
    shares: NDArray[np.float64] = exponentials / exponentials.sum()
    return shares
