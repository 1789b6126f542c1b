"""What the service tells of itself: what it counts and times, in one catalogue, and its log lines.

Who exports the metrics is handed in, so that a unit test needs no Ray. Ray exports each under `ray_` and its name, a
counter with `_total` behind it, and adds the tags `application`, `deployment` and `replica`. The meaning of each, for
who watches: docs/operations.md.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from deployments.types import ComponentStatus

STATES = ("ready", "fallback", "unavailable")


@dataclass(frozen=True, slots=True)
class Metric:
    """A name, what it tells, by which tags it is split and, for a histogram, the upper bounds of its buckets."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    description: str
    tags: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


SHORT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""From one picture on a GPU to `limits.analysis_timeout_s`."""

LONG_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 180)
"""From a remembered analysis to `limits.total_timeout_s`."""

REQUESTS = Metric(
    "counter",
    "image_analyzer_requests",
    "Pictures sent, by how they ended: answered, refused (4xx), failed (5xx), left (the caller closed first).",
    ("route", "outcome", "status"),
)
REQUEST_SECONDS = Metric(
    "histogram", "image_analyzer_request_seconds", "From a request's head to its last byte.", ("route",), LONG_S
)
STAGE_SECONDS = Metric(
    "histogram", "image_analyzer_stage_seconds", "One stage: decode, analysis or prompt.", ("stage",), LONG_S
)
VIEWS = Metric("counter", "image_analyzer_views", "Analyses, by origin: model, or cache.", ("origin",))
ANSWERS = Metric(
    "counter",
    "image_analyzer_answers",
    "Answers by who read the picture (clip, pixels) and who wrote the prompt (ollama, template, none).",
    ("analyzer", "source"),
)
PART_STATE = Metric(
    "gauge", "image_analyzer_part_state", "1 for the state that a part (analyzer, writer) is in.", ("part", "state")
)
BATCH_PICTURES = Metric(
    "histogram",
    "image_analyzer_batch_pictures",
    "Pictures that the model read at once.",
    bounds=(1, 2, 4, 8, 16, 32, 64, 128),
)
BATCH_WAIT_SECONDS = Metric(
    "histogram",
    "image_analyzer_batch_wait_seconds",
    "How long a picture waited at the model for its batch.",
    bounds=SHORT_S,
)
BATCH_RUN_SECONDS = Metric(
    "histogram", "image_analyzer_batch_run_seconds", "How long the model read one batch.", bounds=SHORT_S
)
OLLAMA_UP = Metric(
    "gauge", "image_analyzer_ollama_up", "1 where an Ollama server answers and has the model.", ("host",)
)
OLLAMA_PROMPTS = Metric(
    "counter",
    "image_analyzer_ollama_prompts",
    "Prompts asked of a server, by how that ended: written, failed, left (the caller closed first).",
    ("host", "outcome"),
)
OLLAMA_TOKENS = Metric("counter", "image_analyzer_ollama_tokens", "Tokens that a server says it wrote.", ("host",))
OLLAMA_TOKENS_PER_SECOND = Metric(
    "histogram",
    "image_analyzer_ollama_tokens_per_second",
    "How fast one prompt was written, as the server says, its own waiting and reading left out.",
    ("host",),
    (1, 2.5, 5, 10, 20, 40, 80, 160, 320),
)
OLLAMA_FIRST_TOKEN_SECONDS = Metric(
    "histogram",
    "image_analyzer_ollama_first_token_seconds",
    "From the turn at a server to its first token: a model loaded meanwhile shows here.",
    ("host",),
    LONG_S,
)
OLLAMA_WAIT_SECONDS = Metric(
    "histogram", "image_analyzer_ollama_wait_seconds", "How long a prompt waited for its turn.", bounds=LONG_S
)

CATALOGUE = (
    REQUESTS,
    REQUEST_SECONDS,
    STAGE_SECONDS,
    VIEWS,
    ANSWERS,
    PART_STATE,
    BATCH_PICTURES,
    BATCH_WAIT_SECONDS,
    BATCH_RUN_SECONDS,
    OLLAMA_UP,
    OLLAMA_PROMPTS,
    OLLAMA_TOKENS,
    OLLAMA_TOKENS_PER_SECOND,
    OLLAMA_FIRST_TOKEN_SECONDS,
    OLLAMA_WAIT_SECONDS,
)


class Record(Protocol):
    """Adds a value to a metric; call it in the event loop's thread."""

    def __call__(self, metric: Metric, value: float = 1, **tags: str) -> None:
        """Add `value`, under one value for each of the metric's tags."""
        ...


def unrecorded(metric: Metric, value: float = 1, **tags: str) -> None:
    """Record nothing."""


def record_state(record: Record, part: Literal["analyzer", "writer"], status: ComponentStatus) -> None:
    """Record which of its states a part is in."""
    for state in STATES:
        record(PART_STATE, float(state == status.state), part=part, state=state)


class Instruments(Protocol):
    """What `ray.serve.metrics` gives."""

    @property
    def Counter(self) -> Callable[..., Any]:  # noqa: N802 - Ray's name
        """Name, description and tag_keys in; `inc(value, tags)` out."""
        ...

    @property
    def Gauge(self) -> Callable[..., Any]:  # noqa: N802
        """Name, description and tag_keys in; `set(value, tags)` out."""
        ...

    @property
    def Histogram(self) -> Callable[..., Any]:  # noqa: N802
        """Name, description, boundaries and tag_keys in; `observe(value, tags)` out."""
        ...


class Recorder:
    """Implements `Record` on instruments, each made when it is first needed: a replica exports what it records."""

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments
        self._recording: dict[str, Callable[[float, dict[str, str]], None]] = {}

    def __call__(self, metric: Metric, value: float = 1, **tags: str) -> None:
        """Add `value` to the metric."""
        recording = self._recording.get(metric.name)
        if recording is None:
            recording = self._recording[metric.name] = self._made(metric)
        recording(value, tags)

    def _made(self, metric: Metric) -> Callable[[float, dict[str, str]], None]:
        named: dict[str, Any] = {"description": metric.description, "tag_keys": metric.tags}
        recording: Callable[[float, dict[str, str]], None]
        match metric.kind:
            case "counter":
                recording = self._instruments.Counter(metric.name, **named).inc
            case "gauge":
                recording = self._instruments.Gauge(metric.name, **named).set
            case "histogram":
                recording = self._instruments.Histogram(metric.name, boundaries=list(metric.bounds), **named).observe
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


def join_serve_log() -> None:
    """Send what `image_analyzer.*` loggers say where Serve's own logger does; without it only warnings are seen.

    No line of either is longer than `MAX_LINE_CHARS`.
    """
    ours, serves = logging.getLogger(OURS), logging.getLogger(SERVES)
    ours.setLevel(serves.getEffectiveLevel())
    ours.handlers = list(serves.handlers)
    ours.propagate = False
    for handler in ours.handlers:
        handler.addFilter(BoundedLines())
