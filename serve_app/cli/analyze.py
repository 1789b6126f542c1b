"""`image-analyzer analyze`: pictures to a running service, its answers to the terminal as they arrive."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self, TextIO

import httpx

from deployments.types import PromptOptions
from serve_app.cli.analyze_options import API_KEY_VARIABLE, DEFAULT_JOBS
from serve_app.cli.client import WRONG_USAGE, AnalyzeFailure, Json, ServiceClient, in_own_words, shown
from serve_app.cli.in_order import in_order
from serve_app.cli.named_pictures import named_pictures
from serve_app.cli.terminal import ProgressLine, block, printable, wants_colour

EXIT_SOME_FAILED, EXIT_WRONG_USAGE = 1, 2

INDENT = "  "
CATEGORY_WIDTH = len("color palette: ")


def analyze(
    named: Sequence[Path],
    url: str,
    options: PromptOptions,
    *,
    as_json: bool,
    out: TextIO,
    err: TextIO,
    negative: bool = False,
    jobs: int = DEFAULT_JOBS,
    transport: httpx.BaseTransport | None = None,
    environment: Mapping[str, str] = os.environ,
    wait: Callable[[float], object] = time.sleep,
) -> int:
    """Send the pictures, several at a time, and print the answers in their order.

    Args:
        named: pictures, folders and patterns; `-` is the standard input.
        url: the service's address.
        options: what is asked for besides.
        as_json: print one JSON object per picture and line in place of text.
        out: a report on a terminal; elsewhere the prompts alone, or JSON, or what `analysis_only` asks for.
        err: all else.
        negative: print the negative prompt too; JSON always has it.
        jobs: how many pictures are on their way at a time.
        transport: replaces the network in tests.
        environment: may hold the key, and NO_COLOR.
        wait: takes the seconds that a busy service says to wait.

    Returns:
        0 if every picture was answered, 1 if not, 2 where it was asked wrongly.
    """
    files = named_pictures(named)
    alone = not (out.isatty() or options.analysis_only)
    view = (
        JsonView(out, err, len(files))
        if as_json
        else TextView(out, err, environment, count=len(files), negative=negative, prompt_alone=alone)
    )
    try:
        service = ServiceClient(url, environment.get(API_KEY_VARIABLE, ""), transport, wait)
    except AnalyzeFailure as failure:
        for file in files if as_json else files[:1]:
            view.show_failure(file, failure)
        return EXIT_WRONG_USAGE
    status = 0
    with view, service as client:
        answers = in_order(files, lambda file: view.ask(client, file, options), jobs)
        for number, (file, answer) in enumerate(zip(files, answers, strict=True), 1):
            try:
                view.show(file, answer, number)
            except AnalyzeFailure as failure:
                view.show_failure(file, failure)
                status = max(status, EXIT_WRONG_USAGE if failure.code in WRONG_USAGE else EXIT_SOME_FAILED)
                if status == EXIT_WRONG_USAGE and not as_json:
                    break  # the others would be told the same
    return status


class _View:
    """Where answers and failures go; ends with no line of progress left."""

    def __init__(self, out: TextIO, err: TextIO, count: int) -> None:
        self._out = out
        self._err = err
        self._count = count
        self._progress = ProgressLine(err)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(BrokenPipeError):
            self._progress.clear()

    def _place(self, number: int) -> str:
        """Give `2/40 ` where there are several."""
        return f"{number}/{self._count} " if self._count > 1 else ""


class JsonView(_View):
    """JSON Lines: the analyze route's answer, or its error, with the file's name in front."""

    def ask(self, client: ServiceClient, file: Path, options: PromptOptions) -> Iterator[Json]:
        """Ask for the whole answer."""
        yield client.answer(file, options)

    def show(self, file: Path, answers: Iterable[Json], number: int = 1) -> None:
        """Print the answer."""
        self._progress.show(f"{self._place(number)}{shown(file.name)}: reading and writing …")
        for answer in answers:
            self._print(file, answer)

    def show_failure(self, file: Path, failure: AnalyzeFailure) -> None:
        """Print what went wrong."""
        self._print(file, {"success": False, "error": str(failure), "code": failure.code})

    def _print(self, file: Path, answer: Json) -> None:
        escaped = (self._out.encoding or "utf-8").lower() != "utf-8"
        line = json.dumps({"file": shown(file), **answer}, ensure_ascii=escaped)
        self._progress.clear()
        print(line, file=self._out, flush=True)


class TextView(_View):
    """For people: labels, tags and palette, then the prompt word by word, then times and warnings.

    Args:
        out: the report; with `prompt_alone` a line per prompt, and `err` has the report.
        err: progress and failures.
        environment: may hold NO_COLOR.
        count: how many pictures there are.
        negative: print the negative prompt too.
        prompt_alone: whether another program reads `out`.
    """

    def __init__(
        self,
        out: TextIO,
        err: TextIO,
        environment: Mapping[str, str],
        *,
        count: int = 1,
        negative: bool = False,
        prompt_alone: bool = False,
    ) -> None:
        super().__init__(out, err, count)
        self._negative = negative
        self._prompt_alone = prompt_alone
        self._report = err if prompt_alone else out
        self._colour = wants_colour(self._report, environment)
        self._in_prompt = False

    def ask(self, client: ServiceClient, file: Path, options: PromptOptions) -> Iterator[Json]:
        """Ask for each event when there is one."""
        return client.events(file, options)

    def show(self, file: Path, events: Iterable[Json], number: int = 1) -> None:
        """Print each event when it arrives."""
        name = f"{self._place(number)}{shown(file.name)}"
        self._progress.show(f"{name}: sending …")
        for event in events:
            match event.get("status"):
                case "analyzing":
                    self._progress.show(f"{name}: analysing …")
                case "analyzed":
                    by = f"{event['analyzer']}{', cached' if event['cached'] else ''}"
                    self._say(f"{name if self._prompt_alone else shown(file.name)} (read by {by})")
                    self._show_analysis(event)
                case "generating" if self._in_prompt:
                    self._end_prompt()
                    self._say(f"{INDENT}↻ {event['message']}")
                case "generating" if event.get("before") is not None:
                    self._progress.show(f"{name}: waiting in line, {event['before']} before you …")
                case "generating":
                    doing = "looking at the picture and writing" if event.get("vision") else "writing the prompt"
                    self._progress.show(f"{name}: {doing} …")
                case "thinking":
                    self._progress.show(f"{name}: the model is thinking …")
                case "delta" if not self._prompt_alone:
                    self._write_prompt(event["text"])
                case "complete":
                    self._show_end(event)

    def show_failure(self, file: Path, failure: AnalyzeFailure) -> None:
        """Print what went wrong."""
        self._end_prompt()
        self._progress.clear()
        print(printable(f"✗ {shown(file)}: {failure}"), file=self._err, flush=True)

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
        prompt = event["generatedPrompt"]
        if self._prompt_alone:
            self._progress.clear()
            print(" ".join(printable(prompt).split()), file=self._out, flush=True)
        elif prompt and not self._in_prompt:
            self._write_prompt(prompt)
        self._end_prompt()
        if self._negative and event.get("negativePrompt"):
            self._say(f"{INDENT}negative: {event['negativePrompt']}\n")
        stages = ", ".join(f"{stage} {_duration(ms)}" for stage, ms in event["timings"].items())
        saw = ", which saw the picture" if event.get("vision") else ""
        by = f"; prompt by {event.get('model', event['promptSource'])}{saw}" if prompt else ""
        self._say(f"{INDENT}{stages}{by}")
        for warning in event["warnings"]:
            self._say(f"{INDENT}! {in_own_words(warning)}")
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
        self._report.write(text)
        self._report.flush()


def _duration(ms: float) -> str:
    return f"{ms / 1000:.1f} s" if ms >= 1000 else f"{ms:.0f} ms"
