"""What a target costs beside its model, in CPU time: `python -m benchmarks.composing`

All that is done by rule (wish, labels, fixed parts, negative prompt), the prompt without a model, and a model's answer
fitted piece by piece. At most 2 ms are promised for every target, and next to nothing for `prose`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import get_args

from benchmarks.prompt_quality import requests
from benchmarks.report import table
from deployments.ollama.brief import brief_of
from deployments.ollama.fitting import Fitter
from deployments.ollama.settings import DEFAULT_TARGETS_FILE
from deployments.ollama.targets import Target, load_targets
from deployments.types import Language, PromptRequest

PROMISED_MS = 2.0

ANSWER = (
    "A photorealistic red fox stands in deep snow under a low winter sun, seen in wide angle with mountains behind it. "
    "The colors are dark brown, orange and blue, and soft light falls on the trees. The mood is calm and epic. "
)
PIECE_CHARS = 5
"""About a token."""


def cpu_ms(work: Callable[[PromptRequest], object], asked: Sequence[PromptRequest]) -> list[float]:
    """Give the CPU time of each in milliseconds; the first, which builds what is kept, is left out."""
    spent = []
    for request in asked:
        began_ns = time.thread_time_ns()
        work(request)
        spent.append((time.thread_time_ns() - began_ns) / 1e6)
    return spent[1:]


def costs(name: str, target: Target, asked: Sequence[PromptRequest]) -> tuple[float, float, float]:
    """Give the medians in ms of what is done by rule, and with a prompt without a model, and with fitting an answer."""

    def fit_streamed(request: PromptRequest) -> None:
        form = brief_of(request, name, target).form
        if form is not None:
            fitter = Fitter(form)
            for at in range(0, len(ANSWER), PIECE_CHARS):
                fitter.take(ANSWER[at : at + PIECE_CHARS])
            fitter.end()

    by_rule = statistics.median(cpu_ms(lambda request: brief_of(request, name, target), asked))
    composed = statistics.median(cpu_ms(lambda request: brief_of(request, name, target).composed(), asked))
    return by_rule, composed, statistics.median(cpu_ms(fit_streamed, asked))


def main() -> None:
    """Print a row per target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="requests per target")
    count = parser.parse_args().count
    asked = [replace(request, aspect_ratio="3:2") for request in requests(count, get_args(Language))]
    rows = []
    for name, target in load_targets(DEFAULT_TARGETS_FILE).root.items():
        medians_ms = costs(name, target, asked)
        verdict = "met" if max(medians_ms) <= PROMISED_MS else "not met"
        rows.append([name, *(f"{ms:.3f}" for ms in medians_ms), verdict])
    head = ["target", "by rule, ms", "and composed, ms", "and an answer fitted, ms", f"≤ {PROMISED_MS:g} ms"]
    print(table(head, rows))


if __name__ == "__main__":
    main()
