"""Every failure the service can name, and the HTTP status of each: the one tree, the one map.

    AnalyzerError                 500 internal_error
    ├── UnreadablePicture         400 unreadable_image
    ├── KeyRequired               401 key_required          (with WWW-Authenticate)
    ├── OriginNotAllowed          403 origin_not_allowed
    ├── UploadTooSlow             408 upload_too_slow
    ├── UploadTooLarge            413 upload_too_large
    ├── TooManyPixels             413 too_many_pixels
    ├── FormatNotAccepted         415 format_not_accepted
    ├── InvalidForm               422 invalid_form
    │   └── TooManyLabels         422 too_many_labels
    ├── QueueFull                 429 queue_full            (with Retry-After)
    ├── RateLimited               429 rate_limited          (with Retry-After)
    ├── ComponentUnavailable      503 component_unavailable
    │   ├── ClipUnavailable       503 clip_unavailable
    │   ├── OutOfMemory           503 out_of_memory
    │   ├── OllamaUnavailable     503 ollama_unavailable
    │   ├── Interrupted           503 component_unavailable
    │   └── ShuttingDown          503 shutting_down
    ├── DeadlinePassed            504 deadline_passed
    └── SettingsError             stops the start; never sent

The tree lives beside the deployments because both of them raise from it and neither may import the HTTP
application. Every message is one sentence that tells its reader what to do.
"""

import asyncio
from typing import Self

from pydantic import ValidationError

FAULT = "The service failed on this request; its log says why."
"""What is told of a fault of ours: nothing of its insides."""


def is_fault(error: BaseException) -> bool:
    """Tell what nobody foresaw from the end of a task that somebody wants.

    Ray raises a bare CancelledError for what was cancelled elsewhere, in tasks that nobody has cancelled (Ray 2.60).
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and not task.cancelling()
    return isinstance(error, Exception)


class AnalyzerError(Exception):
    """A failure with a sentence for the caller, a stable `code` and an HTTP status.

    The API's description shows each with its `example`: a sentence that the service says, as it is configured at first.
    Survives pickling between replicas: what is not in `args` travels in `__dict__`.
    """

    code = "internal_error"
    http_status = 500
    example = FAULT

    def __init__(self, sentence: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(sentence)
        self.retry_after_s = retry_after_s


class UnreadablePicture(AnalyzerError):
    """The bytes are no picture, or a broken one."""

    code = "unreadable_image"
    http_status = 400
    example = "The upload is a web page and not a picture: send a JPEG, PNG, WEBP, GIF, BMP, TIFF or AVIF file."


class KeyRequired(AnalyzerError):
    """The request shows no key, or one that does not open."""

    code = "key_required"
    http_status = 401
    example = "This needs an API key: send it as the header 'Authorization: Bearer KEY'."


class OriginNotAllowed(AnalyzerError):
    """A page of another site sent the request."""

    code = "origin_not_allowed"
    http_status = 403
    example = "Pages of other sites may not call: name the page's origin in cors_origins."


class UploadTooSlow(AnalyzerError):
    """The body did not arrive in time."""

    code = "upload_too_slow"
    http_status = 408
    example = "The upload did not arrive within 60 s: send the picture smaller, or over a faster line."


class UploadTooLarge(AnalyzerError):
    """The body passes the byte limit."""

    code = "upload_too_large"
    http_status = 413
    example = "The upload is larger than 20 MB: send the picture smaller or more compressed."


class TooManyPixels(AnalyzerError):
    """The picture is small as a file and huge once decoded."""

    code = "too_many_pixels"
    http_status = 413
    example = "The picture has more than 100 million pixels: send it at a smaller size."


class FormatNotAccepted(AnalyzerError):
    """A picture, but not of a format that the service takes."""

    code = "format_not_accepted"
    http_status = 415
    example = "JPEG XL pictures are not accepted: send a JPEG, PNG, WEBP, GIF, BMP, TIFF or AVIF file."


class InvalidForm(AnalyzerError):
    """A form field is missing or ill-typed."""

    code = "invalid_form"
    http_status = 422
    example = "Form field 'deep_thinking' is wrong: send true or false; 1, 0, yes, no, on and off will do."


class TooManyLabels(InvalidForm):
    """More labels of the caller's own than one request may bring."""

    code = "too_many_labels"
    example = "Form field 'labels' has 9 categories and 18 phrases: send at most 8 and 64."


class QueueFull(AnalyzerError):
    """As many requests wait as may wait."""

    code = "queue_full"
    http_status = 429
    example = "96 requests are being worked on, and no more may; try again in 2 s."


class RateLimited(AnalyzerError):
    """The caller calls more often than it may."""

    code = "rate_limited"
    http_status = 429
    example = "You call more often than you may; try again in 6 s."


class ComponentUnavailable(AnalyzerError):
    """A part is down and no fallback is allowed."""

    code = "component_unavailable"
    http_status = 503
    example = "The picture analysis could not be started: image-analyzer status says why."


class ClipUnavailable(ComponentUnavailable):
    """CLIP is required and its weights are not loaded."""

    code = "clip_unavailable"
    example = "No vision model is loaded."


class OutOfMemory(ComponentUnavailable):
    """The device has no memory left for even one picture."""

    code = "out_of_memory"
    example = (
        "CUDA is out of memory: stop what else uses the GPU (nvidia-smi lists it), let Ollama leave it sooner "
        "(ollama.keep_alive: 0), or run CLIP on the CPU (DEVICE=cpu)."
    )


class OllamaUnavailable(ComponentUnavailable):
    """Ollama is required and cannot write."""

    code = "ollama_unavailable"
    example = "Ollama does not answer at http://localhost:11434. Start it there with: ollama serve"


class Interrupted(ComponentUnavailable):
    """The replica that worked on the request was lost with it."""


class ShuttingDown(ComponentUnavailable):
    """The replica stops; the request was not started."""

    code = "shutting_down"
    example = "The service is being stopped and takes nothing new; try again in 20 s."


class DeadlinePassed(AnalyzerError):
    """A stage took longer than its limit."""

    code = "deadline_passed"
    http_status = 504
    example = "The analysis took longer than 30 s: try again, or raise limits.analysis_timeout_s."


class SettingsError(AnalyzerError):
    """A setting or a label file is wrong; the sentence names it."""

    code = "invalid_settings"

    @classmethod
    def of(cls, source: str, error: ValidationError) -> Self:
        """Name the source, the place in it and what is wrong there, for the first thing that pydantic found."""
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return cls(": ".join(filter(None, [source, place, f"{first['msg']}."])))
