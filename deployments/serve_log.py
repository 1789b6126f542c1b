"""Our log lines in Serve's log: its handlers put them into the replica's file and, with their level, on the console."""

import logging

OURS = "image_analyzer"
SERVES = "ray.serve"


def join_serve_log() -> None:
    """Send what `image_analyzer.*` loggers say where Serve's own logger does; without it only warnings are seen."""
    ours, serves = logging.getLogger(OURS), logging.getLogger(SERVES)
    ours.setLevel(serves.getEffectiveLevel())
    ours.handlers = list(serves.handlers)
    ours.propagate = False
