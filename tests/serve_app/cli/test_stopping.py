"""Real signals, and what others leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from serve_app.cli.stopping import EndAtOnce, StopAsked, StopSignals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_asks_for_a_stop_and_the_second_ends_what_waits_for_it(number: signal.Signals) -> None:
    before = {wanted: signal.getsignal(wanted) for wanted in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        signals = StopSignals()
        signals.take()
        signals.wait(0)
        os.kill(os.getpid(), number)
        with pytest.raises(StopAsked):
            signals.wait(60)
        threading.Timer(0.1, os.kill, (os.getpid(), number)).start()
        with pytest.raises(EndAtOnce):
            time.sleep(60)
    finally:
        for wanted, handler in before.items():
            signal.signal(wanted, handler)


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
