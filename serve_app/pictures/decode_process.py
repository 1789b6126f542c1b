"""The process that decodes what may take long: `python -m serve_app.pictures.decode_process SECONDS MIB`.

It reads pickled arguments of `read_picture` from its standard input until that ends, and writes a pickled `Picture` or
`AnalyzerError` for each to its standard output. The kernel ends it when one has taken `SECONDS`, by SIGALRM: also where
whoever asked is gone or hangs. See `serve_app.pictures.decoding` for what asks.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

from deployments.errors import AnalyzerError, TooManyPixels
from serve_app.pictures.images import Picture, read_picture
from serve_app.settings import MIB, ImageSettings

Question = tuple[bytes, ImageSettings, int, int, int]
"""The arguments of `read_picture`."""

READY = b"ready"
"""Written once, before all answers."""

_SET_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of prctl(2): what is being decoded when the parent is killed ends with it."""

_NICENESS = 10
"""A tenth of what others get, where the processor is wanted by all; without that, all that is left."""

_FIRST_TO_GO = "1000"
"""For the kernel's choice of a process to end when memory runs out."""


def _answer(question: Question) -> Picture | AnalyzerError:
    settings = question[1]
    try:
        return read_picture(*question)
    except AnalyzerError as error:
        if isinstance(error.__cause__, MemoryError):
            return TooManyPixels(
                f"The picture takes more than {settings.decode_process_mib} MiB to decode: send it at a smaller size, "
                "or raise image.decode_process_mib."
            )
        return error


def main(deadline_s: float, most_mib: int) -> None:
    """Answer until there is nothing more to read."""
    os.nice(_NICENESS)
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this.
    with suppress(OSError):  # /proc may be read-only.
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)
    resource.setrlimit(resource.RLIMIT_AS, (most_mib * MIB, most_mib * MIB))
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # Whatever a library prints must not be taken for an answer.
    answers.write(READY)
    answers.flush()
    while questions.peek(1):
        question = pickle.load(questions)  # noqa: S301 - our parent's
        signal.setitimer(signal.ITIMER_REAL, deadline_s)
        answer = _answer(question)
        signal.setitimer(signal.ITIMER_REAL, 0)
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
