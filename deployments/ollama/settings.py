"""What an operator may set about the prompt writer: every limit named, with its unit and its reason."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from deployments.ollama.addresses import DEFAULT_PORT, is_default, normalized, split_list
from deployments.ollama.model_names import in_full, is_remote, is_same, tagged
from deployments.types import PROSE

DEFAULT_TARGETS_FILE = Path(__file__).parents[2] / "configs" / "targets.yaml"

ALWAYS_THINKS = "gpt-oss"
"""Models whose thought has levels, and no end."""

LOOP_PENALTY = 1.2
"""`repeat_penalty` once a model has said nothing, or the same again and again: it gets real ones out of the loop."""

DEFAULT_HOST = f"http://localhost:{DEFAULT_PORT}"


class OllamaSettings(BaseModel):
    """Where Ollama is, how the model samples, and how long and how many may wait."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hosts: tuple[str, ...] = Field(
        (DEFAULT_HOST,),
        min_length=1,
        description="Addresses of the Ollama servers, each with the model; a prompt goes to the least busy. "
        "Environment: OLLAMA_HOST, separated by commas.",
    )
    headers: Mapping[str, Mapping[str, str]] = Field(
        {},
        description="Headers that the server at an address gets and no other: `{https://gpu.example: {Authorization: "
        '"Bearer ${GPU_KEY}"}}`. `${NAME}` is that variable of the environment where OllamaDeployment runs.',
    )
    allow_cloud: bool = Field(
        False,
        description="Take models whose names end in `:cloud` or `-cloud`: their server sends text and picture to "
        "ollama.com.",
    )
    model: str = Field("mistral:latest", description="Name in `ollama list`; without a tag, `:latest`.")
    allowed_models: tuple[str, ...] = Field(
        (), description="Models that a request may name in place of this one, each on one of the servers at least."
    )
    vision_model: str = Field(
        "",
        description="The model that looks at pictures, and then writes, where a request names no model; empty: the one "
        "that writes looks too, if it can.",
    )
    vision_on_cpu: bool = Field(
        False,
        description="Have `vision: auto` look also where less than half of the model is on a GPU, or where it has not "
        "been loaded yet, so that nobody knows: a CPU takes a minute for a picture.",
    )
    vision_size_px: int = Field(
        768,
        ge=64,
        le=2048,
        description="Longest side of the picture that a model is shown: 768 px are about 600 tokens in most.",
    )
    preload: bool = Field(
        False,
        description="Have each server load the model, and the one that looks, and read the constant part of the "
        "instructions when the service starts, and not when the first picture comes: keep_alive holds from then on.",
    )
    keep_alive: str | int = Field(
        "5m",
        description="How long Ollama keeps the model in memory after an answer: `5m`, seconds, 0 unloads it at "
        "once, -1 keeps it. Loading it again costs seconds to a minute; keeping it costs its memory.",
    )
    auto_pull: bool = Field(
        False, description="Pull `model` in the background where it is absent: some gigabytes, so never unasked."
    )

    targets_file: Path = Field(
        DEFAULT_TARGETS_FILE,
        description="What each image generator wants to be told. A relative path is taken from where the service was "
        "started.",
    )
    target: str = Field(PROSE, description="The target of a request that names none.")

    temperature_standard: float = Field(0.5, ge=0, le=2, description="Sampling temperature, standard mode.")
    temperature_deep: float = Field(0.7, ge=0, le=2, description="Sampling temperature, deep mode: freer.")
    num_predict_standard: int = Field(150, ge=1, description="Longest answer in tokens, standard mode.")
    num_predict_deep: int = Field(300, ge=1, description="Longest answer in tokens, deep mode.")
    top_p: float = Field(0.9, gt=0, le=1, description="Nucleus sampling: share of probability kept.")
    repeat_penalty: float = Field(
        1.05,
        ge=1,
        le=2,
        description="How much less likely a token is that came lately, or stands at the end of the notes: at 1 small "
        "models loop, and at 1.1 they name fewer labels.",
    )
    num_ctx: int = Field(
        4096,
        ge=1024,
        description="Tokens of context: room for instructions, notes, a page of wish, a thought and the answer. Ollama "
        "loads the model anew where another request asks for another number.",
    )
    think: Literal["off", "low", "medium", "high", "on"] = Field(
        "off",
        description="Whether a model that can think does so before it writes: it takes longer and gains little. "
        "One that cannot be kept from it (gpt-oss) gets `low`.",
    )
    think_tokens: int = Field(
        2048, ge=0, description="Longest thought in tokens; Ollama takes it out of the longest answer, so it is added."
    )

    connect_timeout_s: float = Field(
        2.0, gt=0, description="Seconds to open a connection: a server that is up accepts within milliseconds."
    )
    first_token_timeout_s: float = Field(
        120.0, gt=0, description="Seconds to the first token: a cold model is loaded first, from a slow disk too."
    )
    first_look_timeout_s: float = Field(
        140.0, gt=0, description="Seconds to the first token with a picture: loaded, and looked at by a CPU."
    )
    token_gap_timeout_s: float = Field(
        30.0, gt=0, description="Seconds between two tokens: even a slow CPU writes one a second."
    )
    total_timeout_s: float = Field(
        150.0, gt=0, description="Seconds for a whole prompt, waiting in line included; below Serve's own limit."
    )
    status_timeout_s: float = Field(
        2.0, gt=0, description="Seconds for a health question: it must not hang with the server."
    )
    pull_stall_timeout_s: float = Field(
        300.0,
        gt=0,
        description="Seconds a pull may show no progress: checking the digest of 4 GB is silent work.",
    )

    max_parallel: int = Field(
        1, ge=1, description="Requests sent to each server at a time: match its OLLAMA_NUM_PARALLEL, which is 1."
    )
    max_looking: int = Field(
        1,
        ge=1,
        description="Of those, requests whose picture is looked at, until their first token: a server looks at one "
        "picture after another, and ends a look whose caller has left.",
    )
    max_waiting: int = Field(
        16, ge=0, description="Requests in line for those places; Ollama itself would queue without a bound."
    )
    retry_after_s: int = Field(5, ge=1, description="Seconds a turned-away caller is asked to stay away.")
    server_rest_s: float = Field(
        30.0,
        gt=0,
        description="Seconds that a server which failed is left alone while another works: the time in which a "
        "server restarts and loads its model.",
    )

    flush_interval_s: float = Field(
        0.02, ge=0, description="Seconds that tokens gather before they travel: a hop costs per item."
    )
    max_pieces_per_s: float = Field(
        1280,
        gt=0,
        description="Most pieces per second over all answers being written: with many at a time, tokens gather longer. "
        "64 answers get 20 pieces a second each, which still reads as a flow.",
    )
    max_prompt_chars: int = Field(
        8000, ge=1, description="Longest prompt in characters: stops a server that ignores num_predict."
    )

    @field_validator("hosts", mode="before")
    @classmethod
    def _listed(cls, hosts: object) -> object:
        return (split_list(hosts) or (DEFAULT_HOST,)) if isinstance(hosts, str) else hosts

    @field_validator("hosts")
    @classmethod
    def _are_addresses(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        hosts = tuple(map(normalized, hosts))
        if len({*hosts}) < len(hosts):
            raise ValueError("an address is named twice")
        return hosts

    @field_validator("headers")
    @classmethod
    def _are_of_addresses(cls, headers: Mapping[str, Mapping[str, str]]) -> Mapping[str, Mapping[str, str]]:
        return {normalized(host): of_host for host, of_host in headers.items()}

    @field_validator("model", "vision_model", "allowed_models")
    @classmethod
    def _are_names(cls, named: str | tuple[str, ...], info: ValidationInfo) -> str | tuple[str, ...]:
        if info.field_name == "vision_model" and not named:
            return named
        for name in (named,) if isinstance(named, str) else named:
            if not name or any(map(str.isspace, name)):
                raise ValueError("a model's name has no blanks")
            if is_remote(name) and not info.data.get("allow_cloud"):
                raise ValueError(
                    f"{name} is a cloud model, and what it is told would leave the house: name another, or set "
                    "ollama.allow_cloud"
                )
        return named

    @property
    def models(self) -> tuple[str, ...]:
        """The names that a request may give, the configured first."""
        names = {in_full(name): name for name in (*self.allowed_models, self.vision_model, self.model) if name}
        return (self.model, *(name for name in names.values() if name != self.model))

    def chosen(self, asked: str) -> str:
        """Give the configured name of the model that a request asks for; nothing asked for is `model`.

        Raises:
            ValueError: it may not be asked for; the sentence lists what may.
        """
        if not asked:
            return self.model
        if is_remote(asked) and not self.allow_cloud:
            raise ValueError("cloud models are not used here, since text would leave the house (ollama.allow_cloud)")
        found = next((name for name in self.models if is_same(name, asked)), None)
        if found is None:
            raise ValueError(f"send one of {', '.join(self.models)}; ollama.allowed_models allows others")
        return found

    def looker(self, asked: str) -> str:
        """Give the model that would look for a request that asks for a model; raises as `chosen`."""
        return self.chosen(asked) if asked or not self.vision_model else self.vision_model

    @property
    def max_writing(self) -> int:
        """Requests sent to all servers together at a time."""
        return self.max_parallel * len(self.hosts)

    @property
    def tagged_model(self) -> str:
        """The model's name as `/api/tags` lists it: always with a tag."""
        return tagged(self.model)

    def headers_for(self, host: str) -> dict[str, str]:
        """Give one server's headers, with the environment's variables put in; an unknown one stays as it is written."""
        headers = self.headers.get(host, {})
        return {name: Template(text).safe_substitute(os.environ).strip() for name, text in headers.items()}

    def pull_command(self, host: str, model: str) -> str:
        """Give the shell command that fetches a model onto a server."""
        server = "" if is_default(normalized(host)) else f"OLLAMA_HOST={shlex.quote(host)} "
        return f"{server}ollama pull {shlex.quote(model)}"

    def thinking(self, model: str, *, off: bool = False) -> bool | Literal["low", "medium", "high"]:
        """Give Ollama's `think` for a model that can, `off` where it has thought in vain."""
        if off or self.think == "off":
            return "low" if ALWAYS_THINKS in model else False
        return True if self.think == "on" else self.think

    def num_predict(self, *, long: bool) -> int:
        """Give the longest answer in tokens of a prompt without a budget."""
        return self.num_predict_deep if long else self.num_predict_standard

    def sampling(
        self,
        *,
        deep: bool,
        num_predict: int | None = None,
        thinks: bool = False,
        loops: bool = False,
        seed: int | None = None,
    ) -> dict[str, float | int]:
        """Give Ollama's `options` for one mode, with room for a thought if there is to be one, against a loop if told.

        The same arguments give the same bytes: with a temperature of 0 and a seed, the same prompt.
        """
        return {
            "temperature": self.temperature_deep if deep else self.temperature_standard,
            "num_predict": (num_predict or self.num_predict(long=deep)) + (self.think_tokens if thinks else 0),
            "top_p": self.top_p,
            "repeat_penalty": max(self.repeat_penalty, LOOP_PENALTY) if loops else self.repeat_penalty,
            "num_ctx": self.num_ctx,
            **({} if seed is None else {"seed": seed}),
        }
