"""The one settings model: what a Serve config's `args` may say, with each limit's unit and reason."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from deployments.clip.labels import MOST_CATEGORIES
from deployments.clip.settings import ClipSettings
from deployments.errors import SettingsError
from deployments.ollama.settings import OllamaSettings

ENVIRONMENT_OVERRIDES = {
    "DEVICE": ("clip", "device"),
    "CLIP_MODEL_NAME": ("clip", "model"),
    "OLLAMA_HOST": ("ollama", "hosts"),
    "OLLAMA_MODEL": ("ollama", "model"),
}
"""Environment variable → the setting it overrides. There are no others."""

KIB = 1024
MIB = KIB * KIB


class ImageSettings(BaseModel):
    """What an upload may be, and how large a picture is looked at."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_upload_mib: float = Field(20, gt=0, description="Largest request body in MiB; counted while it arrives.")
    max_megapixels: float = Field(
        100,
        gt=0,
        le=178,
        description="Most pixels of a decoded picture, in millions, read from its header before decoding: a 100 MP "
        "camera passes, a decompression bomb does not. Decoding that many takes 0.5 to 1 GB for a moment, a "
        "transparent WebP 1.7 GB, in each of decode_threads. Pillow itself refuses above 178.",
    )
    view_size_px: int = Field(
        512,
        ge=64,
        le=2048,
        description="Edge of the square, aspect not kept, that the original takes every picture at, and `exact` too.",
    )
    exact: bool = Field(
        False,
        description="Decode JPEGs whole, and shrink every picture to view_size_px before the model's own input size, "
        "as the original does: several times slower on camera pictures; docs/api.md tells how little it changes.",
    )
    palette_colours: int = Field(5, ge=1, le=16, description="Most colours in the measured palette.")
    decode_threads: int = Field(
        4, ge=1, description="Pictures decoded at once per ingress replica; Pillow frees the interpreter meanwhile."
    )
    max_scans: int = Field(
        100,
        ge=1,
        description="Most scans of a JPEG, counted before decoding: real ones have about 10, libjpeg's own fuzzers "
        "stop at 100 to 500. Each goes over the whole picture, however few bytes it has.",
    )
    quick_decode_s: float = Field(
        0.5,
        ge=0,
        description="A picture whose headers promise to be decoded in this many seconds of CPU is decoded in a thread: "
        "JPEG to about 100 megapixels, PNG to 25, WebP to 16. All others, and TIFF and AVIF, whose headers promise "
        "nothing, go to processes that yield the processor to all others and end at limits.analysis_timeout_s.",
    )
    decode_processes: int = Field(
        2, ge=1, description="Such processes per ingress replica, started when they are needed: 60 MB each at rest."
    )
    decode_process_mib: int = Field(
        3072,
        ge=512,
        description="Most address space of one of them, in MiB; a picture that needs more is refused with 413. 100 "
        "megapixels take up to 2 GiB, and the interpreter half of one.",
    )
    decode_process_idle_s: float = Field(
        60, gt=0, description="How long one of them is kept without work, in s: starting one takes 0.2 s of CPU."
    )
    max_costly: int = Field(
        32,
        ge=1,
        description="Pictures that are decoded in processes or wait for one, per ingress replica; one more is refused "
        "with 429, so that they take no more than a third of limits.max_requests.",
    )


class CacheSettings(BaseModel):
    """How many analyses are remembered, and for how long."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_entries: int = Field(
        1024,
        ge=0,
        description="Analyses that one ingress replica remembers, so that the same bytes are not decoded and read "
        "again; the least recently used goes first. 1024 take less than 20 MB. 0 reads every upload anew, identical "
        "ones at the same time too.",
    )
    max_age_s: float = Field(
        3600,
        gt=0,
        description="How long an analysis is remembered, in seconds. Other labels or another model end it at once; "
        "this is for what the service cannot see, such as weights exchanged in their folder.",
    )


class AccessSettings(BaseModel):
    """Who may call, and how often."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys_file: Path | None = Field(
        None,
        description="File of the API keys, one a line, `NAME KEY`. With it every picture must come with one of them as "
        "`Authorization: Bearer KEY`. Read again within a second of a change.",
    )
    require_key: bool = Field(
        False,
        description="Do not start without keys: the environment of a cluster's node may lack IMAGE_ANALYZER_API_KEYS.",
    )
    requests_per_minute: float | None = Field(
        None,
        gt=0,
        description="Pictures that one caller may send, on average, to one ingress replica; a caller is a key or, "
        "where none are asked for, an address. One more is refused with 429.",
    )
    burst: int = Field(10, ge=1, description="Of these, how many may come at once after a pause.")
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="Names, without a port, under which the service is called: a picture sent under another is refused "
        "with 403, but for those that no stranger can own: addresses, names without a dot, and those below local, "
        "internal, lan and the like. Where none are given, only what looks like DNS rebinding is: see SECURITY.md. "
        "`*` for any.",
    )

    @field_validator("keys_file")
    @classmethod
    def _from_where_the_service_was_started(cls, file: Path | None) -> Path | None:
        return file.absolute() if file else None


class LimitSettings(BaseModel):
    """How long a request may take and how much text it may bring."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_requests: int = Field(
        96,
        ge=1,
        description="Requests, streams included, that one ingress replica works on at a time; one more is refused with "
        "429. The default is what may wait for and run in CLIP and Ollama; each holds an upload of up to 20 MB.",
    )
    upload_timeout_s: float = Field(
        60,
        gt=0,
        description="How long a request's body may take to arrive, in s, so that slow senders do not keep the places "
        "of others: 20 MB in a minute is 2.7 Mbit/s.",
    )
    drain_mib: float = Field(
        64,
        ge=0,
        description="How much of a body is read and thrown away once it is refused, in MiB, so that a client which "
        "sends all before it reads gets the answer and no reset connection: three times max_upload_mib.",
    )
    drain_timeout_s: float = Field(
        10, gt=0, description="For how long, in s; the refused request holds no place meanwhile."
    )
    total_timeout_s: float = Field(
        180,
        gt=0,
        description="Longest from the upload's arrival to the answer's end, in s: the analysis and the prompt at their "
        "longest. Serve's request_timeout_s must be above it and upload_timeout_s together.",
    )
    retry_after_s: int = Field(2, ge=1, description="What a refused caller is told to wait, in seconds.")
    max_form_fields: int = Field(
        64,
        ge=4,
        description="Text fields of a form: the contract's four, and room for those of other services, which the "
        "answer warns of. With max_form_field_kib, 4 MiB.",
    )
    max_form_field_kib: float = Field(
        64, gt=0, description="Longest text field of a form in KiB, counted while it arrives."
    )
    max_user_prompt_chars: int = Field(
        2000, ge=0, description="Longest user_prompt, in characters: a page of text; the LLM's context is 4096 tokens."
    )
    max_own_categories: int = Field(
        8,
        ge=0,
        le=MOST_CATEGORIES,
        description="Most categories in a request's own `labels`: each is one more list in the answer.",
    )
    max_own_labels: int = Field(
        64,
        ge=0,
        le=1000,
        description="Most phrases in them in all: the text tower reads as many within a second on two cores.",
    )
    max_own_label_chars: int = Field(
        100,
        ge=1,
        le=200,
        description="Longest of these phrases, in characters; CLIP reads 77 tokens, some 300 of them.",
    )
    read_calls: int = Field(
        4,
        ge=1,
        description="Calls to CLIP that one ingress replica has under way at a time: enough to keep its streams busy; "
        "pictures that come meanwhile travel together in the next. Raise it with the number of CLIP replicas.",
    )
    read_call_mib: float = Field(
        1.2,
        gt=0,
        le=3.5,
        description="Most of pixels in one such call, in MiB: 8 pictures of 224 px. Serve's gRPC carries 4 MiB.",
    )
    analysis_timeout_s: float = Field(30, gt=0, description="Longest wait for the analysis, queueing included, in s.")
    status_timeout_s: float = Field(3, gt=0, description="Longest wait for a part's status in the health route, in s.")
    heartbeat_s: float = Field(
        15, gt=0, description="Silence in s after which a stream sends a comment: proxies cut idle ones after 30 to 60."
    )


class Settings(BaseModel):
    """Everything a Serve config may set under `args`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    clip: ClipSettings = ClipSettings()
    ollama: OllamaSettings = OllamaSettings()
    image: ImageSettings = ImageSettings()
    cache: CacheSettings = CacheSettings()
    access: AccessSettings = AccessSettings()
    limits: LimitSettings = LimitSettings()
    require_clip: bool = Field(
        False,
        description="A replica starts with CLIP or not at all, rather than let another analyser stand in; what it "
        "was to replace goes on.",
    )
    require_ollama: bool = Field(False, description="Answer 503 rather than let the composer stand in for Ollama.")
    cors_origins: tuple[str, ...] = Field(
        (), description="Origins whose pages may call the API, such as http://localhost:5173; `*` for any."
    )


def load_settings(args: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """Check a config's `args`, with the environment's overrides laid over them.

    Raises:
        SettingsError: one sentence that names the setting, what is wrong, and for a misspelt name the likely one.
    """
    merged: dict[str, Any] = dict(args)
    origins: dict[str, str] = {}
    for variable, (section, name) in ENVIRONMENT_OVERRIDES.items():
        if environment.get(variable):
            merged[section] = {**(merged.get(section) or {}), name: environment[variable]}
            origins[f"{section}.{name}"] = variable
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        raise SettingsError(" ".join(_sentence(dict(problem), origins) for problem in error.errors())) from error


def _sentence(problem: dict[str, Any], origins: Mapping[str, str]) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(place, setting_names(Settings), n=1)
        return f"Unknown setting '{place}'" + (f"; did you mean '{near[0]}'?" if near else ".")
    source = f" (from the environment variable {origins[place]})" if place in origins else ""
    return f"Setting '{place}'{source} is {problem['input']!r}: {problem['msg']}."


def setting_names(model: type[BaseModel], prefix: str = "") -> list[str]:
    """List every setting as a dotted path, sections included."""
    names: list[str] = []
    for name, field in model.model_fields.items():
        names.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += setting_names(field.annotation, f"{prefix}{name}.")
    return names
