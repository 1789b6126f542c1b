"""Real signals to a process that waits as the command does, and what others leave behind."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

WAITS = """
import signal  # as it is where nobody has begun the tests with nohup
signal.signal(signal.SIGHUP, signal.SIG_DFL)
import time
from serve_app.cli.stopping import EndAtOnce, StopAsked, StopSignals
signals = StopSignals()
signals.take()
try:
    while True:
        print("waits", flush=True)
        signals.wait(60)
except StopAsked:
    pass
try:
    print("asked to stop", flush=True)
    time.sleep(60)
except EndAtOnce:
    print("ended", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_asks_for_a_stop_and_the_second_ends_what_waits_for_it(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        for told in ("waits", "asked to stop"):
            assert waiting.stdout.readline() == f"{told}\n"
            waiting.send_signal(number)
        assert waiting.stdout.readline() == "ended\n"
    assert waiting.returncode == 0


LEAVES_A_CHILD = """
import subprocess, sys
from serve_app.cli.stopping import adopt_orphans, end_children
adopt_orphans()
deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
orphaning = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {deaf!r}], start_new_session=True)"
subprocess.run([sys.executable, "-c", orphaning], check=True)
end_children()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere orphans are nobody's")
def test_what_others_left_behind_is_ended_too() -> None:
    # The pipe closes, and this returns, when the last who holds it has ended.
    subprocess.run([sys.executable, "-c", LEAVES_A_CHILD], stdout=subprocess.PIPE, timeout=60, check=True)
