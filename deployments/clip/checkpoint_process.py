"""A checkpoint read in a process of its own, for a replica that needs no torch: see `deployments.clip.checkpoint`."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO, cast

import numpy as np
from numpy.typing import NDArray

from deployments.clip.backends.base import TowerFacts
from deployments.clip.settings import Precision, PrecisionName

ROOT = Path(__file__).parents[2]
"""Where the packages are, for the process to find them."""

ANSWER_LIMIT_S = 300
"""From a slow disk reading takes a minute; what takes longer has hung."""

IDLE_S = 60
"""Starting it takes seconds, and while it is there it takes 600 MB: who asks for labels of an own asks again soon."""


class CheckpointProcess:
    """Started by the first question; ended by `close`, after `idle_s` without one, with this object or this process.

    Questions may come from several threads; they are answered one after another.

    Args:
        folder: of the checkpoint.
        cores: how many it may use; Ray would have it use one.
        idle_s: how long it is kept without a question, in seconds.
        niceness: how far it stands back behind other processes, 0 to 19.
    """

    def __init__(self, folder: Path, cores: int = 1, *, idle_s: float = IDLE_S, niceness: int = 0) -> None:
        self._folder, self._cores, self._niceness = folder, cores, niceness
        self._idle_s = idle_s
        self._asking = threading.RLock()
        self._process: subprocess.Popen[str] | None = None
        self._idle: threading.Timer | None = None

    def convert(self, path: Path, precision: Precision) -> tuple[TowerFacts, PrecisionName]:
        """Write the vision tower as an OpenVINO model, `.xml` and `.bin`.

        Returns:
            What is to be known of it, and the precision that the setting comes to on this processor.

        Raises:
            OSError: a file of the checkpoint is missing or broken, or cannot be read as CLIP or SigLIP; the disk is
                full; or it took longer than `ANSWER_LIMIT_S`.
        """
        told = self._ask({"convert": str(path), "precision": precision})
        return TowerFacts(*told["tower"]), told["precision"]

    def embed_texts(self, texts: list[str]) -> NDArray[np.float32]:
        """Encode texts, scaled by the model's temperature: float32, (embedding, texts).

        Raises:
            OSError: as `convert`.
        """
        with TemporaryDirectory(prefix="ia-") as folder:
            file = Path(folder) / "embeddings.npy"
            self._ask({"texts": texts, "into": str(file)})
            matrix: NDArray[np.float32] = np.load(file)
        return matrix

    def close(self) -> None:
        """End the process; another question starts another."""
        with self._asking:
            self._stay()
            if self._process is not None:
                with self._process as process:
                    self._process = None
                    # It has nothing to lose, and its libraries' threads can keep it from ending in order.
                    process.kill()

    def interrupt(self) -> None:
        """From another thread: end what it is doing, so that who waits for an answer gets an OSError."""
        if process := self._process:
            process.kill()

    def __del__(self) -> None:
        self.close()

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        with self._asking:
            self._stay()
            try:
                return self._answer(question)
            finally:
                # Not by a method of this object, which a timer would keep from being collected.
                self._idle = threading.Timer(self._idle_s, _close, [weakref.ref(self)])
                self._idle.daemon = True
                self._idle.start()

    def _stay(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            python_path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "deployments.clip.checkpoint", str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": python_path, "OMP_NUM_THREADS": str(self._cores)},
            )
            here = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, self._process.pid, here + self._niceness)
        questions, answers = cast(TextIO, self._process.stdin), cast(TextIO, self._process.stdout)
        questions.write(f"{json.dumps(question)}\n")
        questions.flush()
        if not select.select([answers], [], [], ANSWER_LIMIT_S)[0]:
            self.close()
            raise OSError(f"the process that reads the checkpoint gave no answer within {ANSWER_LIMIT_S} s")
        line = answers.readline()
        if not line:
            raise OSError(f"the process that reads the checkpoint ended (exit status {self._process.wait()})")
        told: dict[str, Any] = json.loads(line)
        if "error" in told:
            raise OSError(told["error"])
        return told


def _close(of: weakref.ref[CheckpointProcess]) -> None:
    process = of()
    if process is not None:
        process.close()
