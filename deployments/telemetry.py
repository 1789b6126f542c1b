"""What the service tells of itself: what it counts and times, in one catalogue, and its log lines.

Who exports the metrics is handed in, so that a unit test needs no Ray. Ray exports each under `ray_` and its name, a
counter with `_total` behind it, and adds the tags `application`, `deployment` and `replica`. The meaning of each, for
who watches: docs/operations.md.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable
from itertools import product
from typing import Any, Literal, NamedTuple, Protocol

from deployments.types import ComponentStatus

STATES = ("ready", "fallback", "unavailable")

SHORT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""From one picture on a GPU to `limits.analysis_timeout_s`."""

LONG_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 180)
"""From a remembered analysis to `limits.total_timeout_s`."""

BATCH_SIZES = (0.5, 1.5, 2.5, 4.5, 8.5, 16.5, 32.5, 64.5, 128.5)
"""Between the sizes: Ray 2.60 makes a histogram's sum of the middles of its buckets, and that of one picture is 1."""

TOKENS_PER_S = (1, 2.5, 5, 10, 20, 40, 80, 160, 320)


class Metric(NamedTuple):
    """What a metric is called and tells, and by which tags it is split; a histogram has upper bounds of buckets."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    description: str
    tags: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


CATALOGUE: list[Metric] = []


def _listed(kind: Any, name: str, tells: str, tags: str = "", bounds: tuple[float, ...] = ()) -> Metric:
    CATALOGUE.append(Metric(kind, f"image_analyzer_{name}", tells, tuple(tags.split()), bounds))
    return CATALOGUE[-1]


# fmt: off
REQUESTS = _listed("counter", "requests", "Pictures sent, by how they ended: answered, refused (4xx), failed (5xx), "
    "left (the caller closed first).", "route outcome status")
REQUEST_SECONDS = _listed("histogram", "request_seconds", "From a request's head to its last byte.", "route", LONG_S)
STAGE_SECONDS = _listed("histogram", "stage_seconds", "One stage: decode, analysis or prompt.", "stage", LONG_S)
VIEWS = _listed("counter", "views", "Analyses, by origin: model, or cache.", "origin")
ANSWERS = _listed("counter", "answers", "Answers by who read the picture (clip, objects, pixels) and who wrote the "
    "prompt (ollama, template, none).", "analyzer source")
PART_STATE = _listed("gauge", "part_state", "1 for the state that a part (analyzer, writer) is in.", "part state")
CHANGE_REFUSED = _listed("gauge", "change_refused", "1 while a replica refuses the user_config that came last.")
BATCH_PICTURES = _listed("histogram", "batch_pictures", "Pictures that the model read at once.", "", BATCH_SIZES)
BATCH_WAIT_SECONDS = _listed("histogram", "batch_wait_seconds", "How long a picture waited at the model for its batch.",
    "", SHORT_S)
BATCH_RUN_SECONDS = _listed("histogram", "batch_run_seconds", "How long the model read one batch.", "", SHORT_S)
OLLAMA_UP = _listed("gauge", "ollama_up", "1 where an Ollama server answers and has the model.", "host")
OLLAMA_PROMPTS = _listed("counter", "ollama_prompts", "Prompts asked of a server, by how that ended: written, failed, "
    "left (the caller closed first).", "host outcome")
OLLAMA_TOKENS = _listed("counter", "ollama_tokens", "Tokens that a server says it wrote.", "host")
OLLAMA_TOKENS_PER_SECOND = _listed("histogram", "ollama_tokens_per_second", "How fast one prompt was written, as the "
    "server says, its own waiting and reading left out.", "host", TOKENS_PER_S)
OLLAMA_FIRST_TOKEN_SECONDS = _listed("histogram", "ollama_first_token_seconds", "From the turn at a server to its "
    "first token: a model loaded meanwhile shows here.", "host", LONG_S)
OLLAMA_WAIT_SECONDS = _listed("histogram", "ollama_wait_seconds", "How long a prompt waited for its turn.", "", LONG_S)
# fmt: on


class Record(Protocol):
    """Adds a value to a metric; call it in the event loop's thread."""

    def __call__(self, metric: Metric, value: float = 1, **tags: str) -> None:
        """Add `value`, under one value for each of the metric's tags."""
        ...


def unrecorded(metric: Metric, value: float = 1, **tags: str) -> None:
    """Record nothing."""


def start_at_zero(record: Record, metric: Metric, *values: Iterable[str]) -> None:
    """Export a counter before there is anything to count: PromQL's `rate` does not see a series' first value.

    Args:
        record: takes the metric.
        metric: a counter.
        values: for each of its tags, those to start with; of all together, every combination.
    """
    for combination in product(*values):
        record(metric, 0, **dict(zip(metric.tags, combination, strict=True)))


def record_state(record: Record, part: Literal["analyzer", "writer"], status: ComponentStatus) -> None:
    """Record which of its states a part is in."""
    for state in STATES:
        record(PART_STATE, float(state == status.state), part=part, state=state)


class Recorder:
    """Implements `Record` on what `ray.serve.metrics` gives, made when first needed: a replica exports what it records.

    Args:
        instruments: has `Counter`, `Gauge` and `Histogram`.
    """

    def __init__(self, instruments: Any) -> None:
        self._instruments = instruments
        self._recording: dict[str, Callable[[float, dict[str, str]], None]] = {}

    def __call__(self, metric: Metric, value: float = 1, **tags: str) -> None:
        """Add `value` to the metric."""
        recording = self._recording.get(metric.name)
        if recording is None:
            recording = self._recording[metric.name] = self._made(metric)
        recording(value, tags)

    def _made(self, metric: Metric) -> Callable[[float, dict[str, str]], None]:
        made: Any = self._instruments
        named: dict[str, Any] = {"description": metric.description, "tag_keys": metric.tags}
        if metric.kind == "counter":
            made = _increase(made.Counter(metric.name, **named))
        elif metric.kind == "gauge":
            made = made.Gauge(metric.name, **named).set
        else:
            made = made.Histogram(metric.name, boundaries=list(metric.bounds), **named).observe
        recording: Callable[[float, dict[str, str]], None] = made
        return recording


def _increase(counter: Any) -> Callable[[float, dict[str, str]], None]:
    def recording(value: float, tags: dict[str, str]) -> None:
        # Ray 2.60 exports a counter of 0, but `inc` refuses it.
        (counter.inc if value else counter._record)(value, tags)

    return recording


OURS = "image_analyzer"
SERVES = "ray.serve"

MAX_LINE_CHARS = 8000
"""Room for any line and traceback of ours; what others make us write may be longer, and would fill the disk."""


class BoundedLines(logging.Filter):
    """Cuts what is longer: of a message the end, of a traceback the beginning, since its last line says what failed."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, shortened."""
        message = record.getMessage()
        if len(message) > MAX_LINE_CHARS:
            record.msg, record.args = f"{message[:MAX_LINE_CHARS]} …", ()
        if record.exc_info and not record.exc_text:
            told = "".join(traceback.format_exception(*record.exc_info)).rstrip()
            record.exc_text = told[-MAX_LINE_CHARS:]
        return True


def leave_out_access_lines() -> None:
    """Keep Serve's own line of each call and each poll, in every process that one passes, out of this process's log.

    A picture has its line, from the ingress, and left five more. Serve's `enable_access_log`
    would do, but it comes with a whole `logging_config`, which would stand before that of the user's config.
    """
    logging.getLogger(SERVES).addFilter(_is_no_access_line)


def _is_no_access_line(record: logging.LogRecord) -> bool:
    return not getattr(record, "serve_access_log", False)


def join_serve_log() -> None:
    """Send what `image_analyzer.*` loggers say where Serve's own logger does; without it only warnings are seen.

    No line of either is longer than `MAX_LINE_CHARS`, and Serve's lines of single calls are left out.
    """
    leave_out_access_lines()
    ours, serves = logging.getLogger(OURS), logging.getLogger(SERVES)
    ours.setLevel(serves.getEffectiveLevel())
    ours.handlers = list(serves.handlers)
    ours.propagate = False
    for handler in ours.handlers:
        handler.addFilter(BoundedLines())
