"""How much later than Ollama sent it a token arrives through the service: `python -m benchmarks.streaming`.

In front of a fake Ollama server that writes into every token when it sends it runs `image-analyzer serve`, with the
settings of `make run` but for a tiny model and `ollama.max_parallel`: by default one prompt is written at a time, as
Ollama does. 1, 32 and 64 callers stream, in turn from the fake server itself and from the service.

The answers begin when every caller's request has come to the server, so that the analyses are over; one after another
within the time of one token, as prompts of their own to read keep a server's answers apart, or all at one moment. Who
sends and who receives reads the same clock.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import httpx

from benchmarks.figures import percentile
from benchmarks.processes import spent_by_role
from benchmarks.report import by_process, table
from benchmarks.rounds import FOLDER, started
from benchmarks.service import SETTLE_S, Service
from benchmarks.stamping_ollama import StampingOllama, stamping_ollama
from benchmarks.stream_caller import Stream, calling
from benchmarks.systems import OUR_SYSTEM, System, our_command
from benchmarks.upload import VariedPicture, body_maker, content_type
from benchmarks.workload import prepare
from tests.support.in_process import STREAM
from tests.support.pictures import photograph_path

TOKENS_PER_S = 50
TOKENS = 150
"""Of one answer: as many as the service asks for in standard mode."""
CALLERS = (1, 32, 64)
ROUNDS = 5

DIRECT, SERVED, BURST = "server alone", "service", "service, all begin at once"
SPREAD_S = {DIRECT: 1 / TOKENS_PER_S, SERVED: 1 / TOKENS_PER_S, BURST: 0.0}
"""Path → the time over which the answers begin."""

FIRST_TOKEN_MS = 10
BEYOND_SERVER = 0.02
NOTHING = "–"


@dataclass
class Passage:
    """So many callers at a time on one path.

    Args:
        rounds: the streams of each.
        cpu_s: of the service's processes while tokens came, by role, of all rounds.
    """

    rounds: list[list[Stream]] = field(default_factory=list)
    cpu_s: Counter[str] = field(default_factory=Counter)

    @property
    def first_ms(self) -> list[float]:
        """The delays of first tokens, in ascending order."""
        return sorted(stream.delays_ms[0] for streams in self.rounds for stream in streams)

    @property
    def later_ms(self) -> list[float]:
        """The delays of all other tokens, in ascending order."""
        return sorted(ms for streams in self.rounds for stream in streams for ms in stream.delays_ms[1:])

    @property
    def usual_s(self) -> float:
        """The median duration of a stream, from the first token's sending to the end's arrival."""
        return median(stream.took_s for streams in self.rounds for stream in streams)

    @property
    def slowest_s(self) -> float:
        """The duration of a round's slowest stream, the median of the rounds."""
        return median(max(stream.took_s for stream in streams) for streams in self.rounds)

    @property
    def cpu_ms(self) -> dict[str, float]:
        """CPU-ms per token by role."""
        tokens = sum(len(stream.sent_ns) for streams in self.rounds for stream in streams)
        return {role: 1000 * spent_s / tokens for role, spent_s in self.cpu_s.items()}


Passages = Mapping[tuple[int, str], Passage]
"""By callers and path."""


def streaming_section(passages: Passages) -> str:
    """Give a section of the results in Markdown."""
    return "\n\n".join(
        (
            "## Streaming",
            f"{ROUNDS} rounds; {TOKENS} tokens in each answer, {TOKENS_PER_S} a second. "
            "Delays are from a token's sending by the (fake) Ollama server to its arrival at the caller, in ms: median "
            "/ nine in ten / worst. A duration is from the first token's sending to the end's arrival.",
            streaming_tables(passages),
        )
    )


def streaming_tables(passages: Passages) -> str:
    """Give the figures of each path, and whether the targets are met."""
    targets = table(("streaming target", "bound", "measured", ""), verdicts(passages))
    return f"{table(HEAD, _rows(passages))}\n\n{targets}"


def measure_streaming() -> Passages:
    """Start server and service, and stream on the paths in alternating rounds.

    Raises:
        Unavailable: the service did not start.
        ValueError: a stream failed; it says what came instead.
        TimeoutError: the answers did not end.
    """
    passages = {(callers, path): Passage() for callers in CALLERS for path in SPREAD_S}
    with (
        stamping_ollama(TOKENS, TOKENS_PER_S, max(CALLERS)) as ollama,
        started(_our_system(ollama.url), prepare(FOLDER, tiny=True)) as (at, _),
    ):
        time.sleep(SETTLE_S)
        streaming_service = StreamingService(at.service, at.url)
        streaming_service.stream(ollama, max(CALLERS), SERVED)
        for _ in range(ROUNDS):
            for (callers, path), passage in passages.items():
                streams, cpu_s = streaming_service.stream(ollama, callers, path)
                passage.rounds.append(streams)
                passage.cpu_s.update(cpu_s)
    return passages


def _our_system(ollama_url: str) -> System:
    settings = {"hosts": [ollama_url], "max_parallel": max(CALLERS)}
    return replace(OUR_SYSTEM, name="streaming", command=our_command("streaming", ollama=settings))


def verdicts(passages: Passages) -> Iterator[tuple[str, str, str, str]]:
    """Give each target: what it is, its bound, the measured value, and whether it is met."""
    for callers in (1, 32):
        delay_ms = percentile(passages[callers, SERVED].first_ms, 0.5)
        met = "met" if delay_ms <= FIRST_TOKEN_MS else "not met"
        yield f"first token's delay at {callers}, median", f"{FIRST_TOKEN_MS} ms", f"{delay_ms:.1f} ms", met
    beyond = _beyond(passages, 64, SERVED)
    met = "met" if beyond <= BEYOND_SERVER else "not met"
    yield "slowest of 64, beyond the server alone", f"{BEYOND_SERVER:.0%}", f"{beyond:.1%}", met


HEAD = (
    *("callers", "path", "first token's delay", "later tokens' delay", "duration s: median / slowest"),
    *("slowest beyond the server alone", "service's CPU-ms per token"),
)


def _rows(passages: Passages) -> Iterator[Sequence[str]]:
    for (callers, path), passage in passages.items():
        told = by_process(passage.cpu_ms, digits=2)
        yield (
            *(f"{callers}", path, _spread(passage.first_ms), _spread(passage.later_ms)),
            f"{passage.usual_s:.3f} / {passage.slowest_s:.3f}",
            *((NOTHING, NOTHING) if path == DIRECT else (f"{_beyond(passages, callers, path):+.1%}", told)),
        )


def _beyond(passages: Passages, callers: int, path: str) -> float:
    return passages[callers, path].slowest_s / passages[callers, DIRECT].usual_s - 1


def _spread(ascending: Sequence[float]) -> str:
    return " / ".join(f"{percentile(ascending, share):.1f}" for share in (0.5, 0.9, 1.0))


class StreamingService:
    """The service while it runs at `url`."""

    def __init__(self, service: Service, url: str) -> None:
        self._service = service
        self._url = url
        picture = VariedPicture(photograph_path("china").read_bytes(), "streaming")
        self._body = body_maker("multipart", picture, {})
        self._sent = 0

    def request(self) -> httpx.Request:
        """Make a request with a picture that no other request has."""
        self._sent += 1
        headers = {"Content-Type": content_type("multipart"), "Connection": "close"}
        return httpx.Request("POST", self._url + STREAM, content=self._body(self._sent), headers=headers)

    def stream(self, ollama: StampingOllama, callers: int, path: str) -> tuple[list[Stream], dict[str, float]]:
        """Stream to so many callers at a time; the streams, and the CPU time in s by role while tokens came."""
        requests = [ollama.request() if path == DIRECT else self.request() for _ in range(callers)]
        ollama.hold()
        with calling(requests) as answers:
            ollama.wait_for(callers)
            before = self._service.processes()
            ollama.release(SPREAD_S[path])
            streams = answers()
            return streams, spent_by_role([before, self._service.processes()])


def main() -> None:
    """Print the section."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(streaming_section(measure_streaming()))


if __name__ == "__main__":
    main()
