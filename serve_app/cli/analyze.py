"""`image-analyzer analyze`: pictures to a running service, its answers to the terminal as they arrive."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

import httpx

from deployments.types import PromptOptions
from serve_app.cli.client import API_KEY_VARIABLE, AnalyzeFailure, Json, ServiceClient, shown
from serve_app.cli.terminal import ProgressLine, block, printable, wants_colour

INDENT = "  "
CATEGORY_WIDTH = len("color palette: ")


def analyze(
    files: Sequence[Path],
    url: str,
    options: PromptOptions,
    *,
    as_json: bool,
    negative: bool = False,
    transport: httpx.BaseTransport | None = None,
    environment: Mapping[str, str] = os.environ,
) -> int:
    """Send each picture in turn.

    Args:
        files: the pictures; `-` is the standard input.
        url: the service's address.
        options: what is asked for besides.
        as_json: print one JSON object per picture and line in place of text.
        negative: print the negative prompt too; JSON always has it.
        transport: replaces the network in tests.
        environment: may hold NO_COLOR.

    Returns:
        0 if every picture was answered, else 1.
    """
    view = JsonView(sys.stdout) if as_json else TextView(sys.stdout, sys.stderr, environment, negative=negative)
    failed = False
    try:
        service = ServiceClient(url, os.environ.get(API_KEY_VARIABLE, ""), transport)
    except AnalyzeFailure as failure:
        for file in files:
            view.show_failure(file, failure)
        return 1
    with service as client:
        for file in files:
            try:
                view.show(client, file, options)
            except AnalyzeFailure as failure:
                failed = True
                view.show_failure(file, failure)
    return 1 if failed else 0


class JsonView:
    """JSON Lines: the analyze route's answer, or its error, with the file's name in front."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._escaped = (out.encoding or "utf-8").lower() != "utf-8"

    def show(self, client: ServiceClient, file: Path, options: PromptOptions) -> None:
        """Ask, and print the answer."""
        self._print(file, client.answer(file, options))

    def show_failure(self, file: Path, failure: AnalyzeFailure) -> None:
        """Print what went wrong."""
        self._print(file, {"success": False, "error": str(failure), "code": failure.code})

    def _print(self, file: Path, answer: Json) -> None:
        line = json.dumps({"file": shown(file), **answer}, ensure_ascii=self._escaped)
        print(line, file=self._out, flush=True)


class TextView:
    """For people: labels, tags and palette, then the prompt word by word, then times and warnings."""

    def __init__(
        self, out: TextIO, progress: TextIO, environment: Mapping[str, str], *, negative: bool = False
    ) -> None:
        self._negative = negative
        self._out = out
        self._progress = ProgressLine(progress)
        self._colour = wants_colour(out, environment)
        self._in_prompt = False

    def show(self, client: ServiceClient, file: Path, options: PromptOptions) -> None:
        """Print each event when it arrives."""
        self._progress.show(f"{shown(file.name)}: sending …")
        for event in client.events(file, options):
            match event.get("status"):
                case "analyzing":
                    self._progress.show(f"{shown(file.name)}: analysing …")
                case "analyzed":
                    by = f"{event['analyzer']}{', cached' if event['cached'] else ''}"
                    self._say(f"{shown(file.name)} (read by {by})")
                    self._show_analysis(event)
                case "generating" if self._in_prompt:
                    self._end_prompt()
                    self._say(f"{INDENT}↻ {event['message']}")
                case "generating" if event.get("before") is not None:
                    self._progress.show(f"{shown(file.name)}: waiting in line, {event['before']} before you …")
                case "generating":
                    doing = "looking at the picture and writing" if event.get("vision") else "writing the prompt"
                    self._progress.show(f"{shown(file.name)}: {doing} …")
                case "thinking":
                    self._progress.show(f"{shown(file.name)}: the model is thinking …")
                case "delta":
                    self._write_prompt(event["text"])
                case "complete":
                    self._show_end(event)

    def show_failure(self, file: Path, failure: AnalyzeFailure) -> None:
        """Print what went wrong."""
        self._end_prompt()
        self._say(f"✗ {shown(file)}: {failure}")

    def _show_analysis(self, event: Json) -> None:
        analysis: dict[str, list[Json]] = event["analysis"]
        for category, labels in analysis.items():
            self._show_scored(category.replace("_", " "), labels)
        if tags := event.get("tags"):
            self._show_scored("tags", tags)
        self._write(f"{INDENT}{'palette:':<{CATEGORY_WIDTH}}")
        for colour in event["palette"]:
            swatch = f"{block(colour['hex'])} " if self._colour else ""
            self._write(f"{swatch}{printable(colour['hex'])} {colour['share']:.0%}  ")
        self._say("")

    def _show_scored(self, name: str, found: Sequence[Json]) -> None:
        shares = ", ".join(f"{one['value']} {one['score']:.0%}" for one in found) or "-"
        self._say(f"{INDENT}{f'{name}: ':<{CATEGORY_WIDTH}}{shares}")

    def _show_end(self, event: Json) -> None:
        if not self._in_prompt:
            self._write_prompt(event["generatedPrompt"])
        self._end_prompt()
        if self._negative and event.get("negativePrompt"):
            self._say(f"{INDENT}negative: {event['negativePrompt']}\n")
        stages = ", ".join(f"{stage} {_duration(ms)}" for stage, ms in event["timings"].items())
        saw = ", which saw the picture" if event.get("vision") else ""
        self._say(f"{INDENT}{stages}; prompt by {event.get('model', event['promptSource'])}{saw}")
        for warning in event["warnings"]:
            self._say(f"{INDENT}! {warning}")
        self._say("")

    def _write_prompt(self, text: str) -> None:
        self._write(printable(text) if self._in_prompt else f"\n{INDENT}{printable(text)}")
        self._in_prompt = True

    def _end_prompt(self) -> None:
        if self._in_prompt:
            self._say("\n")
        self._in_prompt = False

    def _say(self, text: str) -> None:
        self._write(f"{printable(text)}\n")

    def _write(self, text: str) -> None:
        self._progress.clear()
        self._out.write(text)
        self._out.flush()


def _duration(ms: float) -> str:
    return f"{ms / 1000:.1f} s" if ms >= 1000 else f"{ms:.0f} ms"
