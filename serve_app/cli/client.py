"""A running service, as the command line asks it."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import urlsplit

import httpx
from httpx_sse import EventSource, SSEError

from deployments.types import PromptOptions
from serve_app.cli.analyze_options import API_KEY_VARIABLE
from serve_app.cli.named_pictures import STDIN

CONNECT_TIMEOUT_S = 5
ANSWER_TIMEOUT_S = 240
"""Longest silence, in seconds: the service's own limits (30 s for the analysis, 150 s for the prompt) come first."""

MB = 1_000_000
MAX_PIPED_BYTES = 500 * MB
"""What comes through a pipe is gathered first, since a form says how long it is: more than any service may take."""

DEFAULT_PORT = 8000
"""The service's, for an address that names neither scheme nor port, as it is typed: `localhost`."""

API_ROOT = "/api/images"
"""With what follows, left off an address that was copied from a call."""

MAX_PAUSES_S = 300
"""Longest that a picture waits, in seconds, for a service that says 429: five of its minutes of few calls."""

MIN_PAUSE_S, UNTOLD_PAUSE_S = 1, 2
"""Seconds before the next try: at the least, and where a 429 names none (what the service says by default)."""

OPTIONS = {"user_prompt": "--prompt", "deep_thinking": "--deep"}
"""Form fields whose options have other names."""

_FIELD = re.compile(r"Form field '(?!image')(\w+)'|\b(user_prompt|deep_thinking|analysis_only|tag_groups)\b")

WRONG_USAGE = frozenset({"invalid_url", "invalid_key", "invalid_form", "too_many_labels"})
"""Codes of what would fail in the same way for every picture, until it is typed otherwise."""

Json = dict[str, Any]


class AnalyzeFailure(Exception):
    """A picture got no answer: the sentence says why and what to do, the code is the API's or one of ours."""

    def __init__(self, sentence: str, code: str) -> None:
        super().__init__(sentence)
        self.code = code


def shown(text: str | Path) -> str:
    """Give a name or an argument as text: of bytes that the locale has no characters for, what they are in UTF-8."""
    return str(text).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def in_own_words(text: str) -> str:
    """Name the command's options where the service names fields of its form."""
    return _FIELD.sub(lambda found: _option(found[1] or found[2]), text)


def _option(field: str) -> str:
    return OPTIONS.get(field, f"--{field.replace('_', '-')}")


def _no_address(typed: str) -> AnalyzeFailure:
    return AnalyzeFailure(f"'{typed}' is no address of a service: write it as http://HOST:PORT.", "invalid_url")


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
    if not piped and os.path.isdir(file):
        os.listdir(file)  # says why, where nobody may look into it
        raise AnalyzeFailure("The folder holds no picture: name one, or a folder with some below it.", "no_pictures")
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
        wait: takes the seconds that the service says to wait.

    Raises:
        AnalyzeFailure: the address or the key is none.
    """

    def __init__(
        self,
        url: str,
        api_key: str = "",
        transport: httpx.BaseTransport | None = None,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._url = service_address(url)
        self._wait = wait
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
                    raise AnalyzeFailure(in_own_words(str(event.get("error"))), str(event.get("code")))
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
            "without": shown(",".join(options.without)),
        }
        form = {name: value for name, value in form.items() if value}
        try:
            with opened(file) as picture, self._admitted(route, form, (shown(file.name), picture)) as response:
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

    @contextmanager
    def _admitted(
        self, route: str, form: dict[str, str], picture: tuple[str, IO[bytes] | bytes]
    ) -> Iterator[httpx.Response]:
        """Send until the answer is another than 429, or it has been that for too long."""
        paused_s = 0.0
        while True:
            with self._client.stream(
                "POST", f"{self._url}{API_ROOT}/{route}", data=form, files={"image": picture}
            ) as response:
                told = response.headers.get("retry-after", "")
                pause_s = max(MIN_PAUSE_S, float(told)) if told.isdecimal() else UNTOLD_PAUSE_S
                paused_s += pause_s
                if response.status_code != httpx.codes.TOO_MANY_REQUESTS or paused_s > MAX_PAUSES_S:
                    yield response
                    return
            self._wait(pause_s)

    def _raise_told(self, response: httpx.Response) -> None:
        told = self._parsed(response.text)
        if "error" not in told or "code" not in told:
            raise self._stranger()
        sentence, code = in_own_words(str(told["error"])), str(told["code"])
        if code == "key_required":
            known = "authorization" in self._client.headers
            sentence = (
                f"The service does not know the key that {API_KEY_VARIABLE} holds: ask whoever runs it for one."
                if known
                else f"The service asks for a key: export {API_KEY_VARIABLE}=KEY."
            )
        raise AnalyzeFailure(sentence, code)

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
