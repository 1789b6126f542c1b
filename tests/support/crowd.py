"""Callers that send pictures, each its next once it has its answer, until they are told to stop."""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import httpx

PATIENCE_S = 60
FAILED_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request: its status and code, or 0 and how the connection failed; `began_s` is monotonic."""

    status: int
    code: str
    began_s: float
    body: Any = None
    retry_after: str | None = None
    took_s: float = 0

    @property
    def answered(self) -> bool:
        """Whether a picture was analysed."""
        return self.status == httpx.codes.OK


class Crowd:
    """`with Crowd(url, picture, callers=8) as crowd:` keeps so many requests on their way; then look at `outcomes`.

    Args:
        url: of the analyze route.
        picture: sent with a tail that decoders pass over, different each time, so that it is not remembered.
        callers: requests on their way at a time, each on a connection of its own.
        pause_s: between an answer and the next request: leaves the machine's cores to others.
        key: API key, sent with each.
        form: the other fields.
    """

    def __init__(
        self,
        url: str,
        picture: bytes,
        *,
        callers: int,
        pause_s: float = 0,
        key: str = "",
        form: Mapping[str, str] | None = None,
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._url = url
        self._picture = picture
        self._pause_s = pause_s
        self._headers = {"Connection": "close", **({"Authorization": f"Bearer {key}"} if key else {})}
        self._form = form
        self._stopped = threading.Event()
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    @property
    def failures(self) -> list[Outcome]:
        """All that were not answered."""
        return [outcome for outcome in self.outcomes if not outcome.answered]

    def told(self) -> Counter[tuple[int, str]]:
        """Count the outcomes by status and code."""
        return Counter((outcome.status, outcome.code) for outcome in self.outcomes)

    def wait_until(self, condition: Callable[[list[Outcome]], bool]) -> bool:
        """Block until the outcomes so far meet a condition."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self.outcomes), PATIENCE_S)

    def _call(self) -> None:
        with httpx.Client(timeout=PATIENCE_S, headers=self._headers) as client:
            while not self._stopped.is_set():
                began_s = time.monotonic()
                outcome = replace(self._sent(client, began_s), took_s=time.monotonic() - began_s)
                with self._changed:
                    self.outcomes.append(outcome)
                    self._changed.notify_all()
                self._stopped.wait(self._pause_s if outcome.answered else FAILED_PAUSE_S)

    def _sent(self, client: httpx.Client, began_s: float) -> Outcome:
        image = self._picture + secrets.token_bytes(8)
        try:
            response = client.post(self._url, files={"image": image}, data=self._form)
            body = response.json()
        except httpx.HTTPError as error:
            return Outcome(0, type(error).__name__, began_s)
        except ValueError:
            return Outcome(response.status_code, response.text, began_s)
        code = body.get("code", "")
        return Outcome(response.status_code, code, began_s, body, response.headers.get("retry-after"))
