"""A running service, as the command line asks it."""

from __future__ import annotations

import ipaddress
import json
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import urlsplit

import httpx
from httpx_sse import EventSource, SSEError

from deployments.types import PromptOptions

API_KEY_VARIABLE = "IMAGE_ANALYZER_API_KEY"
"""Environment variable with the key that the service asks for; an argument would show in the list of processes."""

CONNECT_TIMEOUT_S = 5
ANSWER_TIMEOUT_S = 240
"""Longest silence, in seconds: the service's own limits (30 s for the analysis, 150 s for the prompt) come first."""

STDIN = Path("-")
"""The picture that is piped in."""

MB = 1_000_000
MAX_PIPED_BYTES = 500 * MB
"""What comes through a pipe is gathered first, since a form says how long it is: more than any service may take."""

DEFAULT_PORT = 8000
"""The service's, for an address that names neither scheme nor port, as it is typed: `localhost`."""

API_ROOT = "/api/images"
"""With what follows, left off an address that was copied from a call."""

Json = dict[str, Any]


class AnalyzeFailure(Exception):
    """A picture got no answer: the sentence says why and what to do, the code is the API's or one of ours."""

    def __init__(self, sentence: str, code: str) -> None:
        super().__init__(sentence)
        self.code = code


def shown(text: str | Path) -> str:
    """Give a name or an argument as text: of bytes that the locale has no characters for, what they are in UTF-8."""
    return str(text).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _no_address(typed: str) -> AnalyzeFailure:
    return AnalyzeFailure(
        f"'{typed}' is no address of a service: write it as http://127.0.0.1:{DEFAULT_PORT}.", "invalid_url"
    )


def service_address(typed: str) -> str:
    """Complete an address as people type it: `localhost`, `::1`, `here:8000/prefix/`, or that of a route.

    Raises:
        AnalyzeFailure: it is none.
    """
    address = shown(typed).strip()
    with suppress(ValueError):
        address = f"[{ipaddress.IPv6Address(address)}]"
    bare = "://" not in address
    try:
        parts = urlsplit(f"http://{address}" if bare else address)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _no_address(address)
    place = f"{parts.netloc.rstrip(':')}:{DEFAULT_PORT}" if bare and port is None else parts.netloc
    return f"{parts.scheme}://{place}{parts.path.partition(API_ROOT)[0].rstrip('/')}"


@contextmanager
def opened(file: Path) -> Iterator[IO[bytes] | bytes]:
    """Open a picture, `-` for the standard input; what has no length of its own (a FIFO, `<(…)`) is read to its end.

    Raises:
        AnalyzeFailure: more comes than any service takes.
        OSError: it cannot be read.
    """
    piped = file == STDIN
    if piped and sys.stdin is None:
        raise AnalyzeFailure("The file cannot be read: the standard input is closed.", "unreadable_file")
    with open(sys.stdin.fileno() if piped else file, "rb", closefd=not piped) as source:
        if stat.S_ISREG(os.fstat(source.fileno()).st_mode):
            yield source
            return
        content = source.read(MAX_PIPED_BYTES + 1)
    if len(content) > MAX_PIPED_BYTES:
        raise AnalyzeFailure(
            f"More than {MAX_PIPED_BYTES // MB} MB come: no service takes so much.", "upload_too_large"
        )
    yield content


class ServiceClient:
    """Asks one service; leaves proxies aside, as it is on this machine or near it.

    Args:
        url: its address, as typed.
        api_key: sent with every picture, where there is one.
        transport: replaces the network in tests.

    Raises:
        AnalyzeFailure: the address or the key is none.
    """

    def __init__(self, url: str, api_key: str = "", transport: httpx.BaseTransport | None = None) -> None:
        self._url = service_address(url)
        api_key = api_key.strip()
        if not (api_key.isascii() and (api_key + " ").isprintable()):
            raise AnalyzeFailure(f"What {API_KEY_VARIABLE} holds is no key: copy it anew.", "invalid_key")
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
            return self._parsed(response.text)

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
            "user_prompt": shown(options.user_prompt),
            "deep_thinking": str(options.deep_thinking).lower(),
            "language": shown(options.language),
            "analysis_only": str(options.analysis_only).lower(),
            "model": shown(options.model),
            "vision": "" if options.vision == "auto" else options.vision,
            "seed": "" if options.seed is None else str(options.seed),
            "target": shown(options.target),
            "length": options.length or "",
            "weights": "true" if options.weights else "",
            "tags": "" if options.tags is None else str(options.tags),
            "tag_groups": shown(",".join(options.tag_groups)),
            "labels": json.dumps(dict(options.labels)) if options.labels else "",
        }
        form = {name: value for name, value in form.items() if value}
        try:
            with (
                opened(file) as picture,
                self._client.stream(
                    "POST", f"{self._url}{API_ROOT}/{route}", data=form, files={"image": (shown(file.name), picture)}
                ) as response,
            ):
                if response.is_redirect:
                    raise AnalyzeFailure(
                        f"{self._url} sends on to {response.headers['location']}: give that address as --url.",
                        "redirected",
                    )
                if response.is_error:
                    response.read()
                    self._raise_told(response)
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            if "SSL" in str(error):
                raise AnalyzeFailure(f"What answers at {self._url} cannot be trusted: {error}.", "no_tls") from error
            raise AnalyzeFailure(
                f"No service answers at {self._url}: start it with `make run` or `image-analyzer serve`.",
                "no_service",
            ) from error
        except httpx.TimeoutException as error:
            raise AnalyzeFailure(
                f"The service at {self._url} was silent for {ANSWER_TIMEOUT_S} s: see its log.", "no_answer"
            ) from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise _no_address(self._url) from error
        except SSEError as error:
            raise self._stranger() from error
        except httpx.LocalProtocolError as error:
            raise AnalyzeFailure("The file changed while it was sent: send it again.", "unreadable_file") from error
        except httpx.HTTPError as error:
            raise self._broken_off() from error
        except OSError as error:
            raise AnalyzeFailure(f"The file cannot be read: {error.strerror or error}.", "unreadable_file") from error

    def _raise_told(self, response: httpx.Response) -> None:
        told = self._parsed(response.text)
        if "error" not in told or "code" not in told:
            raise self._stranger()
        raise AnalyzeFailure(str(told["error"]), str(told["code"]))

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
