"""A running service, as the command line asks it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from httpx_sse import EventSource

from deployments.types import PromptOptions

API_KEY_VARIABLE = "IMAGE_ANALYZER_API_KEY"
"""Environment variable with the key that the service asks for; an argument would show in the list of processes."""

CONNECT_TIMEOUT_S = 5
ANSWER_TIMEOUT_S = 240
"""Longest silence, in seconds: the service's own limits (30 s for the analysis, 150 s for the prompt) come first."""

Json = dict[str, Any]


class AnalyzeFailure(Exception):
    """A picture got no answer: the sentence says why and what to do, the code is the API's or one of ours."""

    def __init__(self, sentence: str, code: str) -> None:
        super().__init__(sentence)
        self.code = code


class ServiceClient:
    """Asks one service; leaves proxies aside, as it is on this machine or near it.

    Args:
        url: its address.
        api_key: sent with every picture, where there is one.
        transport: replaces the network in tests.
    """

    def __init__(self, url: str, api_key: str = "", transport: httpx.BaseTransport | None = None) -> None:
        self._url = url.rstrip("/")
        self._client = httpx.Client(
            timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            transport=transport or httpx.HTTPTransport(),
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def answer(self, file: Path, options: PromptOptions) -> Json:
        """Get the whole answer at once.

        Raises:
            AnalyzeFailure: the file, the service or the way to it failed.
        """
        with self._sent("analyze", file, options) as response:
            response.read()
            return self._object(response)

    def events(self, file: Path, options: PromptOptions) -> Iterator[Json]:
        """Get the answer's events as they arrive; the last has the status `complete`.

        Raises:
            AnalyzeFailure: as `answer`; also for an `error` event, and for a stream that breaks off.
        """
        with self._sent("analyze-stream", file, options) as response:
            for sent in EventSource(response).iter_sse():
                event = self._parsed(sent.data)
                if event.get("status") == "error":
                    raise AnalyzeFailure(str(event.get("error")), str(event.get("code")))
                yield event
                if event.get("status") == "complete":
                    return
        raise self._broken_off()

    @contextmanager
    def _sent(self, route: str, file: Path, options: PromptOptions) -> Iterator[httpx.Response]:
        form = {
            "user_prompt": options.user_prompt,
            "deep_thinking": str(options.deep_thinking).lower(),
            "language": options.language,
            "analysis_only": str(options.analysis_only).lower(),
        }
        try:
            with (
                file.open("rb") as picture,
                self._client.stream(
                    "POST", f"{self._url}/api/images/{route}", data=form, files={"image": (file.name, picture)}
                ) as response,
            ):
                if response.is_error:
                    response.read()
                    self._raise_told(response)
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise AnalyzeFailure(
                f"No service answers at {self._url}: start it with `make run` or `image-analyzer serve`.",
                "no_service",
            ) from error
        except httpx.TimeoutException as error:
            raise AnalyzeFailure(
                f"The service at {self._url} was silent for {ANSWER_TIMEOUT_S} s: see its log.", "no_answer"
            ) from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise AnalyzeFailure(
                f"'{self._url}' is no address of a service: write it as http://127.0.0.1:8000.", "invalid_url"
            ) from error
        except httpx.HTTPError as error:
            raise self._broken_off() from error
        except OSError as error:
            raise AnalyzeFailure(f"The file cannot be read: {error.strerror}.", "unreadable_file") from error

    def _raise_told(self, response: httpx.Response) -> None:
        told = self._object(response)
        if "error" not in told or "code" not in told:
            raise self._stranger()
        raise AnalyzeFailure(str(told["error"]), str(told["code"]))

    def _object(self, response: httpx.Response) -> Json:
        return self._parsed(response.text)

    def _parsed(self, text: str) -> Json:
        try:
            content = json.loads(text)
        except ValueError as error:
            raise self._stranger() from error
        if not isinstance(content, dict):
            raise self._stranger()
        return content

    def _stranger(self) -> AnalyzeFailure:
        return AnalyzeFailure(f"What answers at {self._url} is not the image analyzer: check --url.", "not_the_service")

    def _broken_off(self) -> AnalyzeFailure:
        return AnalyzeFailure(
            f"The service at {self._url} broke off in the middle of its answer: see its log.", "broken_off"
        )
