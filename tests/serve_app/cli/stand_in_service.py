"""Stands in for `serve run`: `python stand_in_service.py MODE CONFIG`.

Answers every GET with `health.json` beside the config, or 404 while there is none, on the config's port. Started by
tests as a process of its own, so it needs nothing but the standard library.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


def main(mode: str, config: Path) -> None:
    if mode == "early":
        sys.exit("Traceback (most recent call last):\nValueError: no such model")
    if mode == "deploy-failed":
        sys.stderr.write("\x1b[36m(ServeController pid=7)\x1b[0m AttributeError: no attribute 'find'\n")
        sys.stderr.write("\x1b[36m(ServeController pid=7)\x1b[0m ERROR x -- Deploying app 'a' failed with exception:\n")
    if mode == "warning":
        known = "The weights are being downloaded: 10 % so far."
        sys.stderr.write(f"(ServeReplica:a:ClipDeployment pid=8) WARNING x -- {known}\n")
        sys.stderr.write("(ServeReplica:a:Ingress pid=9) WARNING x -- a slow picture\n")
    if mode == "deaf":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if mode == "littering":
        # Like Ray's workers: a process group of its own, and deaf to what stops the parent.
        worker = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], process_group=0)
        (config.parent / "worker.pid").write_text(str(worker.pid))

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            file = config.parent / "health.json"
            self.send_response(200 if file.exists() else 404)
            self.end_headers()
            self.wfile.write(file.read_bytes() if file.exists() else b"no such path")

        def log_message(self, *_: object) -> None:
            pass

    found = re.search(r"port: (\d+)", config.read_text())
    assert found is not None
    with HTTPServer(("127.0.0.1", int(found.group(1))), Health) as server, suppress(KeyboardInterrupt):
        server.serve_forever(poll_interval=0.02)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
