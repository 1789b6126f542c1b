"""Our log lines in Serve's log: its handlers put them into the replica's file and, with their level, on the console."""

import logging
import traceback

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
