"""What somebody at the front page waits for: `python -m benchmarks.front_page URL PICTURE …`.

An idle service, one picture after the other with a pause between: the time from the first byte of the upload to the
`analyzed` event of the stream. The rest of the stream is read before the next picture.

Writes the same lines as `benchmarks.load`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import time
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from benchmarks.load import ANSWER_LIMIT_S, read_head
from benchmarks.outcome import NO_ANSWER, OK, Outcome, tell
from benchmarks.upload import VariedPicture, body_maker, content_type

EVENT = b"data: "
WARM_UP_PICTURES = 5


async def analyzed_after_s(url: SplitResult, body: bytes) -> float:
    """Give the time from the first byte sent to the event's arrival, in s.

    Raises:
        OSError, EOFError: the connection failed, or the stream ended without the event.
        ValueError: the answer's status is no success; the text says which.
    """
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        head = (
            f"POST {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: {content_type('multipart')}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        sent_s = time.perf_counter()
        writer.write(head.encode() + body)
        status, _ = await read_head(reader)
        if status != OK:
            raise ValueError(f"{status}: {await reader.read()!r}")
        while True:
            line = await reader.readuntil(b"\n")
            if line.startswith(EVENT) and json.loads(line[len(EVENT) :])["status"] == "analyzed":
                break
        took_s = time.perf_counter() - sent_s
        await reader.read()
        return took_s
    finally:
        writer.close()


async def measure(url: SplitResult, picture: VariedPicture, *, pictures: int, think_s: float) -> Outcome:
    """Send so many pictures, after a few that do not count."""
    outcome, body, cpu_s = Outcome(), body_maker("multipart", picture, {}), 0.0
    for number in range(WARM_UP_PICTURES + pictures):
        if number == WARM_UP_PICTURES:
            tell({"event": "opened"})
            outcome, cpu_s = Outcome(), time.process_time()
        await asyncio.sleep(think_s)
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                took_s = await analyzed_after_s(url, body(number))
            outcome.add(OK, took_s * 1000)
            outcome.window_s += took_s
        except (OSError, EOFError, ValueError) as error:
            outcome.add(NO_ANSWER, 0)
            outcome.first_failure = outcome.first_failure or repr(error)
    outcome.client_cpu_s = time.process_time() - cpu_s
    tell({"event": "closed"})
    return outcome


def main() -> None:
    """Measure it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("url", type=urlsplit)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--pictures", type=int, required=True)
    parser.add_argument("--think-s", type=float, required=True, help="pause before each picture")
    arguments = parser.parse_args()
    picture = VariedPicture(arguments.picture.read_bytes(), secrets.token_hex(8))
    outcome = asyncio.run(measure(arguments.url, picture, pictures=arguments.pictures, think_s=arguments.think_s))
    tell(outcome.as_json())


if __name__ == "__main__":
    main()
