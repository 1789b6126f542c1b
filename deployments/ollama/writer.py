"""Writes the prompt for one picture: Ollama's words as they come or, where it cannot, composed ones."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx

from deployments import telemetry
from deployments.errors import AnalyzerError, DeadlinePassed, InvalidForm, OllamaUnavailable, QueueFull, SettingsError
from deployments.ollama.answer import Answer, Prompt
from deployments.ollama.brief import Brief, brief_of
from deployments.ollama.client import OllamaClient, Said
from deployments.ollama.coalescer import Coalescer, Take
from deployments.ollama.failures import (
    CannotDo,
    FailureNames,
    ModelMissing,
    ModelUnfit,
    OllamaFailure,
    SaidNothing,
    ServerFailed,
    ThoughtOnly,
    TookTooLong,
)
from deployments.ollama.fitting import Fitter, Form, fit
from deployments.ollama.instructions import build_messages
from deployments.ollama.model_names import is_same, tagged
from deployments.ollama.pool import Server, ServerPool, Turn
from deployments.ollama.pull import ModelPull
from deployments.ollama.settings import OllamaSettings
from deployments.ollama.sight import OF_THE_LOOK, Look, Sights, looked
from deployments.ollama.targets import TargetSet, load_targets, parse_user_config, with_default
from deployments.telemetry import Record, record_state, start_at_zero, unrecorded
from deployments.types import (
    ComponentStatus,
    HeldModel,
    HostModels,
    PromptDelta,
    PromptEvent,
    PromptLooking,
    PromptRequest,
    PromptRestart,
    PromptThinking,
    PromptWaiting,
    TargetFacts,
)

STOPPED = "stop"
"""Why an answer ended that is whole."""

UNKNOWN = "unknown"
"""What a model can whose server does not tell."""

VOIDED = "What was written was the model's thought, and the prompt begins anew."
MEND_CHANGE = "Correct user_config of OllamaDeployment and deploy it again (image-analyzer deploy CONFIG)."

LOOPED = "The model said the same again and again: the prompt begins anew, without that."
CUT = "The prompt was cut where the model broke off or repeated itself: what is there ends with a whole sentence."

logger = logging.getLogger("image_analyzer.ollama")


class PromptWriter:
    """Every request asks Ollama anew: a refused connection costs a millisecond, and it is found when it is back.

    Args:
        settings: addresses, model, sampling and limits.
        required: raise where Ollama cannot write, in place of composing.
        targets: what generators want to be told; those of the settings' file where none are given.
        record: takes waits, first tokens, speed and outcome of every prompt, and how the servers stand.
        transport: replaces the network in tests.
    """

    def __init__(
        self,
        settings: OllamaSettings,
        *,
        required: bool,
        targets: TargetSet | None = None,
        record: Record = unrecorded,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._settings = settings
        self._required = required
        self._record = record
        self._default_targets = self._targets = with_default(
            targets or load_targets(settings.targets_file), settings.target
        )
        self._refusal = ""
        start_at_zero(record, telemetry.OLLAMA_PROMPTS, settings.hosts, ["written", "failed", "left"])
        clients = [OllamaClient(settings, host, transport, record) for host in settings.hosts]
        self._pool = ServerPool(
            [Server(client, ModelPull(client, settings.model)) for client in clients],
            max_parallel=settings.max_parallel,
            max_looking=settings.max_looking,
            max_waiting=settings.max_waiting,
            rest_s=settings.server_rest_s,
            retry_after_s=settings.retry_after_s,
        )
        self._sights = Sights(settings)

    async def write(self, request: PromptRequest) -> AsyncGenerator[PromptEvent, None]:
        """Stream the prompt: perhaps places in line, that the model looks and thinks; pieces, a restart, the whole.

        The whole is the pieces after the last restart joined, less a broken end or a loop. Close the generator
        (`contextlib.aclosing`) or cancel its reader, and Ollama stops.

        Raises:
            QueueFull: Ollama is required, and as many requests wait as may wait.
            OllamaUnavailable: Ollama is required and cannot write.
            DeadlinePassed: Ollama is required and took too long.
            InvalidForm: there is no such target.
        """
        brief = self._brief(request)
        shown = thought = False
        if not brief.needs_model:
            written = brief.composed()
            yield PromptDelta(written.text)
            yield brief.complete(written, "template")
            return
        shortcoming: tuple[str, ...] = ()
        look = Look(request, self._settings)
        read = functools.partial(self._read, brief, look)
        try:
            async with Coalescer[Prompt](read, self._flush_interval_s) as coalescer:
                while events := await coalescer.events():
                    for event in events:
                        if thought and isinstance(event, PromptThinking):
                            continue
                        yield event
                        thought = thought or isinstance(event, PromptThinking)
                        shown = (shown or isinstance(event, PromptDelta)) and not isinstance(event, PromptRestart)
                prompt = coalescer.result
        except OllamaFailure as failure:
            if self._required:
                raise self._public(failure) from failure
            shortcoming = (str(failure),)
        except QueueFull as full:
            if self._required:
                raise
            shortcoming = (str(full),)
        else:
            warnings = (*look.warnings, *([CUT] if prompt.truncated else []))
            yield brief.complete(prompt, "ollama", warnings, tagged(look.model), vision=bool(look.jpeg))
            return
        if shown:
            yield PromptRestart(*shortcoming)
        composed = brief.composed()
        yield PromptDelta(composed.text)
        yield brief.complete(composed, "template", (*look.warnings, *shortcoming, *brief.shortcomings()))

    async def looking(self) -> tuple[str, ...]:
        """Tell which of the models look at pictures where a request leaves it to `auto`, at one server at least."""
        names = self._settings.models
        asked = [(name, server.client) for name in names for server in self._pool.servers]
        told = await asyncio.gather(*(self._sights.of(client, name) for name, client in asked))
        looks = {name for (name, _), sight in zip(asked, told, strict=True) if sight.auto}
        return tuple(name for name in names if name in looks)

    def _brief(self, request: PromptRequest) -> Brief:
        name = request.options.target or self._settings.target
        try:
            return brief_of(request, name, self._targets.named(name))
        except ValueError as error:
            raise InvalidForm(f"Form field 'target' is wrong: {error}.") from None

    async def targets(self) -> tuple[TargetFacts, ...]:
        """Tell which targets there are."""
        return tuple(target.facts(name) for name, target in self._targets.root.items())

    async def reconfigure(self, content: Mapping[str, Any]) -> None:
        """Take new targets; what is being written goes on with the old ones.

        A wrong `content` is refused, as the CLIP deployment's is: everything stays as it was, and `status` tells.
        """
        try:
            targets = parse_user_config(content).targets
            self._targets = with_default(targets, self._settings.target) if targets else self._default_targets
            self._refusal = ""
        except SettingsError as error:
            self._refusal = str(error)
            logger.error("A change of targets was refused; all stays as it was: %s", error)

    async def status(self) -> ComponentStatus:
        """Ask the servers how they stand now; a model found missing is pulled if `auto_pull` is set."""
        status = await self._status()
        record_state(self._record, "writer", status)
        self._record(telemetry.CHANGE_REFUSED, float(bool(self._refusal)))
        if self._refusal and status.state == "ready":
            reason = f"A change of targets was refused, and what held before holds on: {self._refusal}"
            status = replace(status, state="fallback", reason=reason, remedy=MEND_CHANGE)
        return status

    async def _status(self) -> ComponentStatus:
        servers = self._pool.servers
        found = await asyncio.gather(*(_failure_of(server.client, self._settings.model) for server in servers))
        for server, failure in zip(servers, found, strict=True):
            self._record(telemetry.OLLAMA_UP, float(failure is None), host=server.client.host)
        failures = [
            self._answered_by_pull(server, failure, self._settings.model)
            for server, failure in zip(servers, found, strict=True)
            if failure is not None
        ]
        facts: dict[str, str | int | float] = {
            "model": self._settings.tagged_model,
            "host": ", ".join(self._settings.hosts),
            "writing": self._pool.writing,
            "looking": self._pool.looking,
            "waiting": self._pool.waiting,
        }
        works = [server.client for server, failure in zip(servers, found, strict=True) if failure is None]
        if self._refusal:
            facts["refused_change"] = self._refusal
        if works:
            facts |= await self._facts_of(works)
        percents = [server.pull.percent for server in servers if server.pull.running]
        if percents:
            facts["pull_percent"] = min(percents)
        if len(failures) < len(servers):
            if failures:
                facts["not_writing"] = " ".join(map(str, failures))
            return ComponentStatus("ready", "ollama", facts=facts)
        told = failures[0]
        if self._required:
            return ComponentStatus("unavailable", "none", told.reason, told.remedy, facts)
        return ComponentStatus("fallback", "template", told.reason, told.remedy, facts)

    async def _facts_of(self, clients: Sequence[OllamaClient]) -> dict[str, str | float]:
        """Tell of the configured model where it is: what it can, whether it is loaded, how much of it is on a GPU."""
        model = self._settings.model
        loaded, versions = await asyncio.gather(
            asyncio.gather(*(client.has.loaded(model) for client in clients)),
            asyncio.gather(*(client.has.version() for client in clients)),
        )
        can = {", ".join(sorted(client.has.known(model) or ())) or UNKNOWN for client in clients}
        shares = [running.gpu_share for running in loaded if running is not None]
        told: dict[str, str | float] = {"capabilities": "; ".join(sorted(can)), "loaded": "yes" if shares else "no"}
        if named := {version for version in versions if version}:
            told["version"] = ", ".join(sorted(named))
        if shares:
            told["gpu_share"] = round(min(shares), 3)
        sights = await asyncio.gather(*(self._sights.of(client, self._settings.looker("")) for client in clients))
        told["vision"] = " ".join(dict.fromkeys(sight.told() for sight in sights))
        return told

    async def models(self) -> tuple[HostModels, ...]:
        """Ask each server for its models, with what each can and which are loaded."""
        return tuple(await asyncio.gather(*(_models_of(server.client) for server in self._pool.servers)))

    async def unload(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Free what the models that may be asked for take of the servers' memory.

        Returns:
            The names of those that were loaded, and the addresses of the servers that answered.

        Raises:
            OllamaUnavailable: no server answers.
        """
        found = await asyncio.gather(
            *(_unloaded(server.client, self._settings.models) for server in self._pool.servers)
        )
        names = {name for names in found if not isinstance(names, OllamaFailure) for name in names}
        answered = [
            server.client.host
            for server, names in zip(self._pool.servers, found, strict=True)
            if not isinstance(names, OllamaFailure)
        ]
        if not answered:
            failure = next(failure for failure in found if isinstance(failure, OllamaFailure))
            raise self._public(failure)
        return tuple(sorted(names)), tuple(answered)

    async def preload(self) -> None:
        """Have each server load the model and read the constant part of the instructions."""
        await asyncio.gather(*(self._preload(server.client) for server in self._pool.servers))

    async def _preload(self, client: OllamaClient) -> None:
        options = self._settings.sampling(deep=False) | {"num_predict": 1}
        for model in dict.fromkeys((self._settings.looker(""), self._settings.model)):
            try:
                await client.load(model, build_messages(PromptRequest({}))[:-1], options)
            except OllamaFailure as failure:
                logger.warning("%s did not load %s: %s", client.host, model, failure)

    async def close(self) -> None:
        """Stop the pulls and close the clients."""
        for server in self._pool.servers:
            await server.pull.close()
            await server.client.close()

    async def _read(self, brief: Brief, look: Look, take: Take) -> Prompt:
        """Read one server's answer; where that fails, another's, and once more where one had begun or none is left.

        A look that has failed is followed by all that for the text alone.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._settings.total_timeout_s
        request, in_sentences = brief.request, brief.form is None or not brief.form.in_phrases
        num_predict = brief.num_predict or self._settings.num_predict(long=request.options.deep_thinking)
        await look.decide(self._pool.working, self._sights)
        repeated = roomy = looped = False
        told: OllamaFailure | None = None
        while True:
            came_s, model, looks = loop.time(), look.model, bool(look.jpeg)
            async with self._turn(request, look, deadline_s, take, told) as turn:
                server, started_s = turn.server, loop.time()
                self._record(telemetry.OLLAMA_WAIT_SECONDS, started_s - came_s)
                outcome, answer = "left", Answer(self._settings.max_prompt_chars)
                try:
                    can_think = await server.client.has.thinks(model, deadline_s)
                    think = self._settings.thinking(model, off=roomy) if can_think else None
                    options = self._settings.sampling(
                        deep=brief.deep,
                        num_predict=num_predict,
                        thinks=roomy or bool(think),
                        loops=looped,
                        seed=request.options.seed,
                    )
                    said = server.client.chat(
                        build_messages(request, look.jpeg, ask=brief.ask, in_sentences=in_sentences),
                        options,
                        deadline_s=deadline_s,
                        model=model,
                        think=think,
                        looks=looks,
                    )
                    if looks:
                        take(PromptLooking())
                        said = looked(said, turn)
                    prompt = await self._answered(said, answer, take, server.client.failures, model, brief.form)
                except OllamaFailure as failure:
                    outcome = "failed"
                    roomy, looped = isinstance(failure, ThoughtOnly), isinstance(failure, SaidNothing)
                    unseen = looks and (looped or not answer.shown)
                    alone = isinstance(failure, OF_THE_LOOK if unseen else (ThoughtOnly, SaidNothing, CannotDo))
                    look.at = look.at if looks else ()
                    another = not alone and self._another(server, failure, model, look)
                    told = self._answered_by_pull(server, failure, model)
                    if unseen and not isinstance(failure, TookTooLong):
                        if (roomy or looped) and not repeated:
                            repeated = True
                        elif not look.goes_on(server, failure, another=another):
                            repeated = roomy = looped = False
                            self._sights.forget(server.client, model)
                            take(PromptLooking(looks=False))
                    elif not (another and not answer.shown) or isinstance(failure, TookTooLong):
                        if repeated or not isinstance(failure, ServerFailed):
                            raise told from None
                        repeated = True
                    if answer.shown:
                        take(PromptRestart(failure.reason))
                else:
                    outcome = "written"
                    self._pool.works(server)
                    logger.info("%s wrote a prompt in %.1f s.", server.client.host, loop.time() - started_s)
                    return prompt
                finally:
                    self._record(telemetry.OLLAMA_PROMPTS, host=server.client.host, outcome=outcome)

    @asynccontextmanager
    async def _turn(
        self, request: PromptRequest, look: Look, deadline_s: float, take: Take, failed: OllamaFailure | None
    ) -> AsyncIterator[Turn]:
        """Hold a place at a server; raises `failed`, which was met at the one before, where none is free in time."""
        limit = asyncio.timeout_at(deadline_s)
        place = self._pool.turn(
            again=failed is not None,
            model=look.model,
            picture=request.picture,
            at=look.at,
            looks=bool(look.jpeg),
            tell=lambda before: take(PromptWaiting(before)),
        )
        try:
            async with limit, place as turn:
                limit.reschedule(None)
                yield turn
        except TimeoutError:
            if not limit.expired():
                raise
            late = f"Ollama had no place for this prompt within {self._settings.total_timeout_s:g} s."
            raise failed or TookTooLong(late, "Try again, or name more servers in OLLAMA_HOST.") from None

    async def _answered(
        self,
        said: AsyncGenerator[Said, None],
        answer: Answer,
        take: Take,
        failures: FailureNames,
        model: str,
        form: Form | None,
    ) -> Prompt:
        ended, thought = "", False
        fitter = form and Fitter(form)
        async with aclosing(said):
            async for piece in said:
                ended = piece.done_reason
                text, voided = answer.take(piece.text)
                if (piece.thinks or answer.thinking) and not thought:
                    thought = True
                    take(PromptThinking())
                if voided:
                    take(PromptRestart(VOIDED))
                    fitter = form and Fitter(form)
                if text and fitter:
                    text = fitter.take(text)
                if text:
                    take(PromptDelta(text))
                if answer.finished or (fitter and fitter.full):
                    break
        if fitter and form:
            text, cut = answer.close(cut=ended != STOPPED and not fitter.full)
            fitted = fit(form, text, cut=cut)
            if not fitted.has_words:
                raise failures.nothing(model, thought=thought or answer.thought)
            if not fitted.text.startswith(fitter.given):
                take(PromptRestart(LOOPED))
                fitter.given = ""
            if news := fitted.text[len(fitter.given) :]:
                take(PromptDelta(news))
            return Prompt(fitted.text, truncated=cut, over=fitted.truncated and not cut)
        shown = answer.shown
        prompt = answer.end(cut=ended != STOPPED)
        if prompt.text.startswith(shown) and len(prompt.text) > len(shown):
            take(PromptDelta(prompt.text[len(shown) :]))
        if not prompt.text:
            raise failures.nothing(model, thought=thought or answer.thought)
        return prompt

    def _another(self, server: Server, failure: OllamaFailure, model: str, look: Look) -> bool:
        """Tell whether another server may do better; one that lacks a model does not rest: it has others."""
        if isinstance(failure, ModelUnfit) and server.client.has.lacks(model):
            return not all(other.client.has.lacks(model) for other in look.at or self._pool.servers)
        return self._pool.rest(server, failure.reason, model, look.at)

    def _flush_interval_s(self) -> float:
        return max(self._settings.flush_interval_s, self._pool.writing / self._settings.max_pieces_per_s)

    def _answered_by_pull(self, server: Server, failure: OllamaFailure, model: str) -> OllamaFailure:
        pulled = self._settings.auto_pull and model == self._settings.model
        if not (pulled and isinstance(failure, ModelMissing)):
            return failure
        server.pull.start()
        return ModelMissing(server.pull.sentence(), "Wait until it is there.")

    def _public(self, failure: OllamaFailure) -> AnalyzerError:
        kind = DeadlinePassed if isinstance(failure, TookTooLong) else OllamaUnavailable
        return kind(str(failure), retry_after_s=self._settings.retry_after_s)


async def _failure_of(client: OllamaClient, model: str) -> OllamaFailure | None:
    try:
        await client.has.check(model)
    except OllamaFailure as failure:
        return failure
    return None


async def _models_of(client: OllamaClient) -> HostModels:
    try:
        listed, running = await asyncio.gather(client.has.models(), client.has.running())
        can = await asyncio.gather(*map(client.has.capabilities, listed))
    except OllamaFailure as failure:
        return HostModels(client.host, reason=failure.reason, remedy=failure.remedy)
    loaded = {model.model: model.gpu_share for model in running}
    models = tuple(
        HeldModel(model.model, None if told is None else tuple(told), loaded.get(model.model), model.size)
        for model, told in zip(listed, can, strict=True)
    )
    return HostModels(client.host, await client.has.version(), models)


async def _unloaded(client: OllamaClient, models: Sequence[str]) -> list[str] | OllamaFailure:
    try:
        running = await client.has.running()
        loaded = [model.model for model in running if any(is_same(model.model, name) for name in models)]
        await asyncio.gather(*map(client.unload, loaded))
    except OllamaFailure as failure:
        return failure
    return loaded
