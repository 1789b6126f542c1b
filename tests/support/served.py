"""The HTTP application on a port of this machine, for clients that are no Python of ours."""

from __future__ import annotations

import socket
import threading
from typing import Self

import uvicorn

from tests.support import in_process


class Service(in_process.Service):
    """The application on a port, in a thread, with stand-ins for the two deployments."""

    def __enter__(self) -> Self:
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(self.api, log_level="error", ws="none"))
        self._thread = threading.Thread(target=self._server.run, args=([listener],))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
