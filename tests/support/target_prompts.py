"""One photograph's prompts for every target, with a model and without: `python -m tests.support.target_prompts`.

Writes the golden file beside the writer's tests, and the examples of docs/targets.md.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import httpx

from benchmarks.report import filled
from deployments.ollama.answer import SENTENCE_END, UNIT
from deployments.ollama.brief import UNIT_NAMES
from deployments.ollama.settings import DEFAULT_TARGETS_FILE, OllamaSettings
from deployments.ollama.targets import Target, load_targets
from deployments.ollama.writer import PromptWriter
from deployments.types import LabelScore, PromptComplete, PromptOptions, PromptRequest, Swatch
from tests.deployments.ollama.samples import TimedOllama, collected, outcome

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "deployments" / "ollama" / "target_prompts.md"
DOCUMENT = ROOT / "docs" / "targets.md"

WISH = "a linen napkin beside the cup, without people or text"


def _ranked(*labels: tuple[str, float]) -> tuple[LabelScore, ...]:
    return tuple(LabelScore(value, score) for value, score in labels)


COFFEE = PromptRequest(
    scores={
        "style": _ranked(("photorealistic", 0.58), ("vintage", 0.11), ("modern", 0.08)),
        "mood": _ranked(("calm", 0.31), ("intimate", 0.24), ("peaceful", 0.12)),
        "composition": _ranked(("close-up", 0.46), ("centered subject", 0.21), ("depth", 0.09)),
        "color_palette": _ranked(("warm tones", 0.52), ("earth tones", 0.27), ("natural", 0.06)),
        "subjects": _ranked(("food", 0.44), ("still life", 0.38), ("objects", 0.09)),
    },
    palette=(
        Swatch("#aa4720", 0.3762),
        Swatch("#c47846", 0.1936),
        Swatch("#2d0c06", 0.1846),
        Swatch("#d8a57b", 0.0938),
        Swatch("#791e0c", 0.0689),
    ),
    aspect_ratio="3:2",
)
"""The page's sample of a coffee cup: its palette as it is measured, and labels as CLIP gives them to such a picture."""

SENTENCES = (
    "An espresso cup stands on its saucer on a rustic wooden table, with a small spoon and a linen napkin beside it. "
    "The photorealistic close-up keeps the cup at its center, in orange and beige tones against dark red shadows. "
    "Warm light falls from the side and glows on the crema. "
    "The mood is calm and intimate, as in the first quiet minutes of a morning."
)
PHRASES = (
    "Espresso cup on a saucer, linen napkin beside the cup, rustic wooden table, small spoon, photorealistic food "
    "photography, close-up, centered subject, warm side light, orange and beige tones, dark red shadows, calm, intimate"
)
"""A model's words, in the shape that each target asks for."""


def answer_of(target: Target, words: int) -> str:
    """Say as much as is asked for, as a model does that follows, and with a lead-in, as most do."""
    if target.shape == "phrases":
        return f"Here is a prompt: {PHRASES}"
    ends = [end.end() for end in SENTENCE_END.finditer(f"{SENTENCES} ")]
    fitting = [end for end in ends if len(UNIT.findall(SENTENCES[:end])) <= words]
    return f'Here is a prompt: "{SENTENCES[: max(fitting, default=ends[0])]}"'


async def prompt_for(name: str, target: Target, *, with_model: bool) -> PromptComplete:
    """Have the coffee's prompt written."""
    words = target.budget.limit("medium") if target.budget else len(SENTENCES)
    refused = httpx.MockTransport(lambda _: httpx.Response(500))
    server = TimedOllama((0.0, answer_of(target, words))) if with_model else refused
    writer = PromptWriter(OllamaSettings(), required=False, transport=server)
    request = replace(COFFEE, options=PromptOptions(WISH, target=name))
    try:
        return outcome(await collected(writer.write(request)))
    finally:
        await writer.close()


async def _sections(*, both: bool) -> str:
    sections = []
    for name, target in load_targets(DEFAULT_TARGETS_FILE).root.items():
        prompts = [await prompt_for(name, target, with_model=True)] if target.shape != "tags" else []
        if both or not prompts:
            prompts.append(await prompt_for(name, target, with_model=False))
        told = [f"### `{name}`: {target.title}", target.help]
        told += [f"```text\n{prompt.prompt}\n```" for prompt in prompts]
        last = prompts[-1]
        facts = [
            last.negative and f"Negative prompt: `{last.negative}`",
            last.size and f"Size: {last.size}",
            *(f"{p.budget.spent} of {p.budget.limit} {UNIT_NAMES[p.budget.unit]}" for p in prompts if p.budget),
        ]
        told += [f"{'; '.join(filter(None, facts))}."] if any(facts) else []
        sections.append("\n\n".join(told))
    return "\n\n".join(sections)


def golden() -> str:
    """Give all prompts, of each target first a model's and then the composer's."""
    return f"{asyncio.run(_sections(both=True))}\n"


def document() -> str:
    """Give docs/targets.md with its examples."""
    return filled(DOCUMENT.read_text(), {"examples": asyncio.run(_sections(both=False))})


if __name__ == "__main__":
    GOLDEN.write_text(golden())
    DOCUMENT.write_text(document())
