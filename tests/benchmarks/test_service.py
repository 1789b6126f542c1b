"""A system as a process: ready when it answers rightly, told why when it cannot, gone at the end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.processes import session_members
from benchmarks.service import ROOT, Service, Unavailable, environment
from tests.support.ports import free_port

# Answers POSTs with a number that grows, as a model that is still loading gives other answers than later.
SERVER = """
import itertools, json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    numbers = itertools.count()
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"number": next(self.numbers)}).encode())

HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_it_is_ready_when_the_answer_is_right_and_gone_at_the_end(tmp_path: Path) -> None:
    port, answers = free_port(), []

    def objection(answer: dict[str, int]) -> str:
        answers.append(answer["number"])
        return "" if answer["number"] == 2 else "too early"

    with Service((sys.executable, "-c", SERVER, str(port)), {}, tmp_path / "log", stop_s=0) as service:
        service.wait_until_right(f"http://127.0.0.1:{port}", b"picture", "image/jpeg", objection)  # type: ignore[arg-type]
        pids = list(service.processes())

    assert answers == [0, 1, 2]
    assert len(pids) == 1
    assert not session_members({pids[0]})


def test_one_that_ends_by_itself_is_told_with_the_last_words_of_its_checkout(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import os\nos.chdir('/')\nimport words")
    (tmp_path / "words.py").write_text("raise SystemExit('no such model')")

    with (
        pytest.raises(Unavailable, match="ended by itself: no such model"),
        Service((sys.executable, "-m", "broken"), {}, tmp_path / "log", stop_s=0, root=tmp_path) as service,
    ):
        service.wait_until_right(f"http://127.0.0.1:{free_port()}", b"", "image/jpeg", lambda _: "")


def test_what_an_interruption_left_half_started_is_ended_too() -> None:
    program = """
import os, signal, subprocess, sys
from benchmarks.service import ending_all, environment
command = (sys.executable, "-c", "import time; print(flush=True); time.sleep(100)")
with ending_all():
    subprocess.Popen(command, env=environment({}), start_new_session=True)
    os.kill(os.getpid(), signal.SIGTERM)
"""
    with subprocess.Popen((sys.executable, "-c", program), cwd=ROOT, stdout=subprocess.PIPE) as interrupted:
        assert interrupted.stdout is not None
        interrupted.stdout.read()  # ends when nobody is left who could write there
        assert interrupted.wait(10) == 128 + signal.SIGTERM


def test_nothing_that_would_tune_a_system_comes_in_from_outside() -> None:
    outside = {"PATH": "/bin", "OMP_NUM_THREADS": "1", "OLLAMA_HOST": "http://elsewhere", "RAY_ADDRESS": "auto"}

    given = environment({"BENCHMARK_MODEL": "/model"}, outside)

    assert given["PATH"] == "/bin"
    assert given["BENCHMARK_MODEL"] == "/model"
    assert not {"OMP_NUM_THREADS", "OLLAMA_HOST", "RAY_ADDRESS"} & set(given)
