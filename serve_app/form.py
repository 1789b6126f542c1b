"""The form of a request: the picture, what is asked for besides, and what its sender should know of the rest."""

from __future__ import annotations

import dataclasses
import difflib
import logging
import re
from collections import Counter
from typing import NoReturn

from fastapi import Request
from pydantic import TypeAdapter, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from deployments.errors import AnalyzerError, InvalidForm, TooManyLabels
from deployments.types import PromptOptions
from serve_app.settings import KIB, LimitSettings

FILES = 1
"""A form brings one picture."""

MAX_TOLD = 8
"""Fields that warnings name; a form may have more of them than anybody reads."""

MAX_NAME_CHARS = 40
"""Of a field that a warning names."""

IMAGE = "image"

OTHER_NAMES = {
    "prompt": "user_prompt",
    "userPrompt": "user_prompt",
    "userInput": "user_prompt",
    "deep": "deep_thinking",
    "deepThinking": "deep_thinking",
    "analysisOnly": "analysis_only",
    "tagGroups": "tag_groups",
}
"""What the command's options, the hook's and the answers call a field → its name in the form; docs/api.md has them."""

_KNOWN = (IMAGE, *(field.name for field in dataclasses.fields(PromptOptions)))

_VALIDATED = TypeAdapter(PromptOptions)

# It tells the log of each broken form, whose sender is told, and whose request has its line.
logging.getLogger("python_multipart").setLevel(logging.ERROR)

_EXTENDED_FILENAME = re.compile(rb"(?i)\bfilename\*[0-9*]*=")
"""RFC 2231's and 5987's way of writing names that are not ASCII. No multipart form should have it; some clients send it
alone (urllib3 900), and a part without a `filename` is taken for text."""

_BASE64 = re.compile(r"\s*(?:data:[^,]{0,200},|(?:[A-Za-z0-9+/_-]{4}\s*){10})")
"""What a data URL, or a picture as base64, begins with."""

_HOW = "send the picture's bytes as a file of a multipart/form-data form, with curl as -F image=@FILE"

_TEXT = f"Form field 'image' is {{}}: {_HOW}."


class InMemoryParser(MultiPartParser):
    """Keeps the file of a form: Starlette would write what is over 1 MB to the disk, to be read again at once."""

    def __init__(self, request: Request, limits: LimitSettings) -> None:
        super().__init__(
            request.headers,
            request.stream(),
            max_files=FILES,
            max_fields=limits.max_form_fields,
            max_part_size=int(limits.max_form_field_kib * KIB),
        )
        self.file: list[bytes] = []

    def on_headers_finished(self) -> None:
        """Take the head of a part."""
        part = self._current_part
        if part.content_disposition is not None:
            part.content_disposition = _EXTENDED_FILENAME.sub(b"filename=", part.content_disposition)
        super().on_headers_finished()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        """Take a piece of a part."""
        if self._current_part.file is None:
            super().on_part_data(data, start, end)
        else:
            self.file.append(data[start:end])

    def refuse(self, reason: str) -> NoReturn:
        """Name the bound that a form passed, or what else is wrong with it; raises `InvalidForm`."""
        part = self._current_part
        if self._current_files > self.max_files:
            raise InvalidForm("The form has more than one file: send one picture, as 'image'.")
        if self._current_fields > self.max_fields:
            raise InvalidForm(
                f"The form has more than {self.max_fields} fields: send fewer, or raise limits.max_form_fields."
            )
        if reason.startswith("Part exceeded"):
            if part.field_name == IMAGE:
                raise InvalidForm(_TEXT.format("base64 text, which is not read"))
            raise InvalidForm(
                f"Form field '{part.field_name[:MAX_NAME_CHARS]}' has more than {self.max_part_size / KIB:g} KiB: "
                "send less, or raise limits.max_form_field_kib."
            )
        raise InvalidForm(f"The body is not a valid multipart form: {reason.rstrip('.')}.")


async def read_form(request: Request, limits: LimitSettings) -> tuple[bytes, PromptOptions, list[str]]:
    """Give the picture that a form brings, what is asked for, and a warning of each thing that was sent in vain.

    FastAPI's way costs a copy of the picture more, and a validation of each field by itself.

    Raises:
        InvalidForm: it is no form, or a field is missing or wrong.
        AnalyzerError: whatever ended the body.
    """
    if parse_options_header(request.headers.get("content-type"))[0] != b"multipart/form-data":
        raise InvalidForm(f"Form field 'image' is missing: {_HOW}; JSON, base64 and bare bodies are not read.")
    parser = InMemoryParser(request, limits)
    try:
        form = await parser.parse()
        await form.close()
    except MultiPartException as error:
        parser.refuse(error.message)
    except (AnalyzerError, ClientDisconnect):
        raise
    except Exception as error:
        raise InvalidForm("The body is not a valid multipart form: it cannot be read.") from error
    items = [(OTHER_NAMES.get(name, name), value) for name, value in form.multi_items()]
    fields = {name: value for name, value in dict(items).items() if value != ""}
    match fields.pop(IMAGE, None):
        case None:
            files = [name for name, value in items if not isinstance(value, str)]
            came = f"the file came as '{files[0][:MAX_NAME_CHARS]}', name it 'image'" if files else _HOW
            raise InvalidForm(f"Form field 'image' is missing: {came}.")
        case str() as text:
            _refuse_text(text)
    try:
        options = _VALIDATED.validate_python(fields)
    except ValidationError as error:
        problem = error.errors()[0]
        of_two = problem["type"].startswith("bool")
        wrong = "send true or false; 1, 0, yes, no, on and off will do" if of_two else problem["msg"]
        raise InvalidForm(f"Form field '{problem['loc'][0]}' is wrong: {wrong}.") from error
    longest = limits.max_user_prompt_chars
    for name, text in (("user_prompt", options.user_prompt), ("without", ",".join(options.without))):
        if len(text) > longest:
            raise InvalidForm(f"Form field '{name}' has {len(text)} characters: send at most {longest}.")
    _refuse_labels(options, limits)
    in_query = list(request.query_params) if request.scope["query_string"] else []
    return b"".join(parser.file), options, _sent_in_vain([name for name, _ in items], in_query)


def _refuse_labels(options: PromptOptions, limits: LimitSettings) -> None:
    """Refuse labels of the caller's own that are too many, too long, or no choice."""
    phrases = [phrase for _, own in options.labels for phrase in own]
    if len(options.labels) > limits.max_own_categories or len(phrases) > limits.max_own_labels:
        raise TooManyLabels(
            f"Form field 'labels' has {len(options.labels)} categories and {len(phrases)} phrases: send at most "
            f"{limits.max_own_categories} and {limits.max_own_labels}."
        )
    for category, own in options.labels:
        if len({phrase.strip().casefold() for phrase in own}) < max(2, len(own)):
            raise InvalidForm(f"Form field 'labels' is wrong: send two different phrases or more for '{category}'.")
    longest = limits.max_own_label_chars
    if any(not 0 < len(phrase.strip()) <= longest for phrase in phrases):
        raise InvalidForm(f"Form field 'labels' is wrong: send phrases of 1 to {longest} characters.")


def _refuse_text(text: str) -> NoReturn:
    raise InvalidForm(_TEXT.format("base64 text, which is not read" if _BASE64.match(text) else "not a file"))


def _sent_in_vain(in_form: list[str], in_query: list[str]) -> list[str]:
    """Give a sentence for each of the first names that nobody reads, with the one that was meant."""
    told = []
    for name, times in Counter(in_form).items():
        if name not in _KNOWN:
            told.append(f"Form field '{name[:MAX_NAME_CHARS]}' is not known and was not read: {_meant(name)}.")
        elif times > 1:
            told.append(f"Form field '{name}' was sent {times} times, and the last counts: send it once.")
    told += [f"'{name[:MAX_NAME_CHARS]}' in the address was not read: {_meant(name)}." for name in in_query]
    return told[:MAX_TOLD]


def _meant(name: str) -> str:
    near = difflib.get_close_matches(_plain(name[:MAX_NAME_CHARS]), _BY_PLAIN_NAME, n=1)
    return f"send the form field '{_BY_PLAIN_NAME[near[0]]}'" if near else f"the form's fields are {', '.join(_KNOWN)}"


def _plain(name: str) -> str:
    """Leave out what programmers write differently: `deepThinking`, `deep-thinking`."""
    return "".join(filter(str.isalnum, name)).lower()


_BY_PLAIN_NAME = {_plain(name): name for name in _KNOWN}
