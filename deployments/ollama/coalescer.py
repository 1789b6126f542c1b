"""Fewer, longer pieces: a hop between replicas costs per item, and a model writes a word at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable


async def coalesce(tokens: AsyncIterator[str], flush_interval_s: Callable[[], float]) -> AsyncGenerator[str, None]:
    """Pass the first token on at once, later ones joined; `flush_interval_s` says how long after each piece at least.

    The source is read ahead in a task of its own, so a slow consumer gets longer pieces and not a longer delay,
    and the source ends when it has no more and not when the consumer has taken all. How far ahead is the
    source's to bound. Its end or error comes after everything that it gave before. Closing or cancelling this
    generator closes the source.

    Raises:
        Exception: whatever the source raises.
    """
    loop = asyncio.get_running_loop()
    held: list[str] = []
    news = asyncio.Event()

    async def read() -> None:
        async for token in tokens:
            held.append(token)
            news.set()

    reader = asyncio.create_task(read())
    reader.add_done_callback(lambda _: news.set())
    flush_at_s = loop.time()
    try:
        while not reader.done() or held:
            await news.wait()
            wait_s = flush_at_s - loop.time()
            if wait_s > 0 and not reader.done():
                await asyncio.wait({reader}, timeout=wait_s)
            piece = "".join(held)
            held.clear()
            news.clear()
            if piece:
                flush_at_s = loop.time() + flush_interval_s()
                yield piece
        await reader
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
