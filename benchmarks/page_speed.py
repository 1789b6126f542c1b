"""How soon the page is seen, and whether it stays smooth while a prompt is written: `python -m benchmarks.page_speed`.

Needs Chromium, and no service: the built page is served with an answer whose 2,000 characters come in pieces.
"""

from __future__ import annotations

import http.server
import json
import statistics
import threading
import time

from playwright.sync_api import Browser, sync_playwright

from serve_app.web_page import FOLDER
from tests.support.browser import CHROMIUM_FLAGS, chromium
from tests.support.pictures import photograph_path

ROUNDS = 5
PIECES = 400
"""Of 5 characters each."""
PIECES_PER_S = 100
"""What a small model on a GPU writes."""

ENDS = {"timings": {"total": 1}, "warnings": []}
ANALYZED = {
    "status": "analyzed",
    "analysis": {
        name: [{"value": f"label {number}", "score": 0.3} for number in range(3)]
        for name in ("style", "mood", "composition", "color_palette", "subjects")
    },
    "tags": [{"value": f"thing {number}", "group": "objects", "score": 0.9} for number in range(10)],
    "palette": [{"hex": f"#{level:02x}4020", "share": 0.2, "name": "red"} for level in (32, 80, 128, 176, 224)],
    "analyzer": "clip",
    "cached": False,
    **ENDS,
}

FIRST_PAINT = """() => new Promise((resolve) => {
    new PerformanceObserver((list) => resolve(list.getEntriesByName("first-contentful-paint")[0].startTime))
        .observe({ type: "paint", buffered: true });
})"""
FRAMES = """() => {
    const frames = [];
    let last = performance.now();
    const take = (now) => { frames.push(now - last); last = now; requestAnimationFrame(take); };
    requestAnimationFrame(take);
    window.frames_ms = frames;
}"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """The built page; of the API the stream alone."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of it."""

    def do_POST(self) -> None:
        """Write a prompt, piece by piece."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        words = [f"{number:04d} " for number in range(PIECES)]
        self._send(ANALYZED)
        self._send({"status": "generating", "message": ""})
        for word in words:
            self._send({"status": "delta", "text": word})
            time.sleep(1 / PIECES_PER_S)
        text = "".join(words).strip()
        self._send(
            {"status": "complete", "generatedPrompt": text, "promptSource": "template", "truncated": False} | ENDS
        )

    def _send(self, event: object) -> None:
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())


def main() -> None:
    """Print a line per round, and the medians."""
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *request: Handler(*request, directory=str(FOLDER))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    print(f"{'':8}{'first paint ms':>16}{'longest frame ms':>18}{'frames over 50 ms':>19}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_FLAGS)
        rounds = [_round(browser, address) for _ in range(ROUNDS)]
        browser.close()
    server.shutdown()
    for number, row in enumerate(rounds):
        print(f"{number:<8}{row[0]:16.0f}{row[1]:18.0f}{row[2]:19.0f}")
    medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
    print(f"{'median':8}{medians[0]:16.0f}{medians[1]:18.0f}{medians[2]:19.0f}")


def _round(browser: Browser, address: str) -> tuple[float, float, float]:
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    first_paint_ms: float = page.evaluate(FIRST_PAINT)
    page.get_by_label("Choose a picture").set_input_files(photograph_path("china"))
    box = page.get_by_label("Prompt", exact=True)
    box.wait_for()
    page.wait_for_function("document.querySelector('.ia-box > textarea').value !== ''")
    page.evaluate(FRAMES)
    page.get_by_text("Done.").wait_for()
    frames_ms: list[float] = page.evaluate("window.frames_ms")
    context.close()
    return first_paint_ms, max(frames_ms), sum(frame_ms > 50 for frame_ms in frames_ms)


if __name__ == "__main__":
    main()
