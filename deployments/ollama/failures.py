"""Every way in which an Ollama server can fail, as one small family: what happened and what to do, a sentence each.

None of the family leaves this room under its own name.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import aiohttp
import httpx

from deployments.ollama.addresses import DEFAULT_PORT, at_own_port, without_path
from deployments.ollama.model_names import is_same
from deployments.ollama.package import ResponseError
from deployments.ollama.settings import OllamaSettings
from deployments.ollama.wire import ListedModel, error_sentence

SHOWN_MODELS = 5
"""How many of the models that are there are named where the one asked for does not write."""

PLAIN_WRITER = "mistral"
"""What is named where nothing is there."""

SHOWN_URL_CHARS = 200

NO_PROTOCOL = (
    ValueError, TypeError, AttributeError, RecursionError,  # JSON that is none, or of another shape
    aiohttp.ClientResponseError,  # no HTTP, which the transport does not translate
)  # fmt: skip
"""What is raised where an answer is not Ollama's."""

MISJUDGED = re.compile("does not support (thinking|multimodal requests)|think value")
"""What a server says whose model cannot do what it was known to."""

BAD_REQUEST = 400
KEY_WANTED = (401, 403)
NO_SUCH_PLACE = (404, 405)
BUSY = 503


class OllamaFailure(Exception):
    """Ollama did not write the prompt. `reason` says what happened, `remedy` what to do: one sentence each."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason} {remedy}")
        self.reason = reason
        self.remedy = remedy


class ServerDown(OllamaFailure):
    """Nothing accepts a connection at the address."""


class ModelUnfit(OllamaFailure):
    """The server is there, and the model does not write."""


class ModelMissing(ModelUnfit):
    """The server is there, the model is not."""


class ServerFailed(OllamaFailure):
    """The server answered with an error, broke off, or sent what is not its protocol."""


class BrokenOff(ServerFailed):
    """The answer has no end."""


class CannotDo(ServerFailed):
    """The model was asked for more than it can."""


class SaidNothing(ServerFailed):
    """The answer is empty, or loops from its beginning."""


class ThoughtOnly(ServerFailed):
    """The model thought, and wrote nothing."""


class TookTooLong(OllamaFailure):
    """The first token, the next token or the whole prompt passed its limit."""


class FailureNames:
    """Turns what went wrong at one server into the member of the family that says so.

    Args:
        settings: the model, and how it is fetched.
        host: the server's address.
    """

    def __init__(self, settings: OllamaSettings, host: str) -> None:
        self._settings = settings
        self._host = host

    @contextmanager
    def named(self, too_slow: str) -> Iterator[None]:
        """Turn what is raised inside into one of the family; `too_slow` says what a TimeoutError means.

        Raises:
            OllamaFailure: in place of what the network, the clock and the parser raise.
        """
        try:
            yield
        except ResponseError as error:
            raise self.of_error(error_sentence(error.error)) from error
        except (ConnectionError, httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise self._unreached(error) from error
        except TimeoutError as error:
            raise TookTooLong(f"Ollama at {self._host} {too_slow}.", "Try again, or choose a smaller model.") from error
        except httpx.HTTPError as error:
            raise self.broken_off() from error
        except NO_PROTOCOL as error:
            raise self._no_ollama() from error

    def of_answer(self, response: httpx.Response) -> OllamaFailure:
        """Name what an answer is, read whole, whose status is none of success."""
        status, told = response.status_code, error_sentence(response.text)
        if response.has_redirect_location:
            return self._redirected(response.url.join(response.headers["location"]))
        if status in KEY_WANTED:
            return ServerFailed(
                f"What answers at {self._host} refuses the request ({status}).",
                "If it asks for a key, put it into ollama.headers; for a cloud model, run there: ollama signin",
            )
        if status in NO_SUCH_PLACE:
            of_model = "model" in told and not told.startswith("<")
            return self.missing(_asked(response.request)) if of_model else self._no_ollama()
        if status == BAD_REQUEST and told.endswith(("does not support chat", "does not support generate")):
            return self.unfit(_asked(response.request))
        if status == BAD_REQUEST and MISJUDGED.search(told):
            return CannotDo(f"Ollama failed: {told.removesuffix('.')}.", "Its own log says more.")
        if status == BAD_REQUEST and "HTTPS" in told:
            return self._other_scheme("https")
        if status == BUSY:
            return ServerFailed(f"Ollama is busy: {told}.", "Try again in a few seconds.")
        return self.of_error(told or f"status {status}") if status >= BAD_REQUEST else self._no_ollama()

    def of_error(self, told: str) -> ServerFailed:
        """Pass on what the server itself says."""
        return ServerFailed(
            f"Ollama failed: {told.removesuffix('.') or 'it does not say why'}.", "Its own log says more."
        )

    def broken_off(self) -> BrokenOff:
        """Say that an answer has no end."""
        return BrokenOff(
            f"Ollama at {self._host} broke off in the middle of its answer.", "Try again; its own log says why."
        )

    def nothing(self, model: str, *, thought: bool) -> ServerFailed:
        """Say that there is no prompt in an answer: it is empty, or all thought."""
        if not thought:
            return SaidNothing(
                "Ollama's answer was empty, or the same again and again.", "Try again, or try another model."
            )
        return ThoughtOnly(
            f"{model} thought, and came to no answer.",
            "Raise ollama.think_tokens, or set OLLAMA_MODEL to a model that does not think.",
        )

    def missing(self, model: str, there: Sequence[ListedModel] = ()) -> ModelMissing:
        """Say how to fetch the model, and what could be used in its place."""
        remedy = f"Run: {self._settings.pull_command(self._host, model)}"
        if instead := self._instead(model, there):
            remedy += f", or {instead}"
        return ModelMissing(f"Ollama has no model {model}.", remedy)

    def unfit(self, model: str, there: Sequence[ListedModel] = ()) -> ModelUnfit:
        """Say that the model cannot write, and what could be used in its place."""
        instead = self._instead(model, there) or f"set OLLAMA_MODEL to one that does: {PLAIN_WRITER}"
        return ModelUnfit(
            f"{model} does not write text: it is for something else, as embeddings are.",
            f"{instead[0].upper()}{instead[1:]}",
        )

    def _instead(self, model: str, there: Sequence[ListedModel]) -> str:
        configured = is_same(model, self._settings.model)
        writers = [
            listed.model
            for listed in there
            if listed.writes and (configured or any(is_same(listed.model, name) for name in self._settings.models))
        ]
        way = "set OLLAMA_MODEL to" if configured else "set the form field model to"
        return f"{way} one that is there: {', '.join(writers[:SHOWN_MODELS])}" if writers else ""

    def _unreached(self, error: BaseException) -> ServerDown | ServerFailed:
        cause: BaseException | None = error
        while cause is not None and (isinstance(cause, aiohttp.ClientError) or not isinstance(cause, ssl.SSLError)):
            cause = cause.__cause__ or cause.__context__
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ServerFailed(
                f"The certificate of {self._host} is not trusted: {cause.verify_message}.",
                "Name the file of its authority's certificate in SSL_CERT_FILE.",
            )
        if cause is not None:
            return self._other_scheme("http")
        remedy = "Start it there with: ollama serve"
        if own := at_own_port(self._host):
            remedy += f", and set OLLAMA_HOST to {own}: without a port, {own.partition('://')[0]}:// has its own"
        elif self._host.startswith("https"):
            remedy += " (it speaks http:// unless a proxy stands before it)"
        return ServerDown(f"Ollama does not answer at {self._host}.", remedy)

    def _other_scheme(self, spoken: str) -> ServerFailed:
        place = self._host.partition("://")[2]
        return ServerFailed(
            f"What answers at {self._host} speaks {spoken}://.", f"Set OLLAMA_HOST to {spoken}://{place}"
        )

    def _redirected(self, target: httpx.URL) -> ServerFailed:
        shown = str(target)[:SHOWN_URL_CHARS]
        return ServerFailed(
            f"What answers at {self._host} redirects to {shown}, and redirects are not followed.",
            f"If Ollama is there, set OLLAMA_HOST to {shown.partition('/api/')[0]}",
        )

    def _no_ollama(self) -> ServerFailed:
        origin = without_path(self._host)
        if origin != self._host:
            return ServerFailed(
                f"There is no Ollama behind the path of {self._host}.", f"Remove the path: set OLLAMA_HOST to {origin}"
            )
        own = at_own_port(self._host)
        return ServerFailed(
            f"What answers at {self._host} does not speak Ollama's protocol.",
            f"Check the address (OLLAMA_HOST){f': Ollama listens on port {DEFAULT_PORT}, as in {own}' if own else '.'}",
        )


def _asked(request: httpx.Request) -> str:
    """Give the model that a question was about."""
    return str(json.loads(request.content)["model"])
