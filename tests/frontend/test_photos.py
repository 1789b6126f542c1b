"""Any photo, and how far it is sent, in a real Chromium: the package's modules below the page's policy, without Ray."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from PIL import Image, ImageDraw
from playwright.sync_api import Page, sync_playwright
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from serve_app.web_page import PAGE_HEADERS
from tests.support.browser import CHROMIUM_FLAGS, chromium, installed_frontend, run_npm

NO_PAGE = '<link rel="icon" href="data:,">'
MIB = 1024 * 1024
OVER_THE_LIMIT = ("camera.jpg", "film.gif", "wall.jpg")
UPLOAD_BYTES = 600_000
UPLOAD_BYTES_PER_S = 300_000
PIECES = ["湖 ", "بحيرة ", "😀"]
PIECE_EVERY_S = 0.25
PATIENCE_S = 20

SVG = '<svg xmlns="http://www.w3.org/2000/svg" {}><style>rect{{fill:#f00}}</style><rect width="20" height="10"/></svg>'

PREPARE = """async ([bytes, name, padding]) => {
    const { preparePicture } = await import("/dist/shrink.js");
    const content = Uint8Array.from(atob(bytes), (character) => character.charCodeAt(0));
    const file = new File([content, new Uint8Array(padding)], name);
    try {
        const read = new FileReader();
        const prepared = await preparePicture(file);
        read.readAsDataURL(prepared);
        await new Promise((resolve) => (read.onload = resolve));
        return [read.result.split(",")[1], prepared === file];
    } catch (error) {
        return [error.code, error.message];
    }
}"""

SEND = """async ([address, bytes, giveUpAfterMs]) => {
    const { uploadingFetch } = await import("/dist/uploadingFetch.js");
    const shares = [], pieces = [];
    const body = new FormData();
    body.append("image", new Blob([new Uint8Array(bytes)]), "lake.jpg");
    const signal = AbortSignal.timeout(giveUpAfterMs);
    try {
        const response = await uploadingFetch((share) => shares.push(share))(address, { method: "POST", body, signal });
        const reader = response.body.getReader();
        for (let read = await reader.read(); !read.done; read = await reader.read())
            pieces.push([new TextDecoder().decode(read.value), performance.now()]);
        return { shares, pieces, error: "" };
    } catch (error) {
        return { shares, pieces, error: error.name };
    }
}"""


class CannedService:
    """Serves the modules to an empty page, and streams an answer to what is posted."""

    def __init__(self, modules: Path) -> None:
        self.given_up = 0
        routes = [
            Route("/", lambda _: HTMLResponse(NO_PAGE, headers=PAGE_HEADERS)),
            Route("/slow", self._slow, methods=["POST"]),
            Route("/none", lambda _: Response(status_code=HTTPStatus.NO_CONTENT), methods=["POST"]),
            Mount("/dist", StaticFiles(directory=modules)),
        ]
        config = uvicorn.Config(Starlette(routes=routes), port=0, log_level="error", lifespan="off", ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self) -> str:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        return "http://{}:{}/".format(*self._server.servers[0].sockets[0].getsockname())

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()

    async def _slow(self, request: Request) -> Response:
        try:
            await request.body()
        except ClientDisconnect:
            self.given_up += 1
            return Response()
        return StreamingResponse(self._pieces(), media_type="text/event-stream")

    async def _pieces(self) -> AsyncIterator[str]:
        try:
            for piece in PIECES:
                yield piece
                await asyncio.sleep(PIECE_EVERY_S)
        except asyncio.CancelledError:
            self.given_up += 1
            raise


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> CannedService:
    modules = tmp_path_factory.mktemp("modules")
    compile_ = ("tsc", "--project", "tsconfig.package.json", "--outDir", str(modules))
    run_npm(installed_frontend(), "exec", "--", *compile_)
    return CannedService(modules)


@pytest.fixture(scope="module")
def page(service: CannedService) -> Iterator[Page]:
    with service as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_FLAGS)
        page = browser.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(url)
        yield page
        assert complaints == []
        browser.close()


def halves(width: int, height: int) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), "blue")
    ImageDraw.Draw(image).rectangle((0, 0, width // 2 - 1, height), fill="red")
    return image


def saved(image: Image.Image, kind: str, **how: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # its left side is the top
    return saved(halves(4000, 3000), "JPEG", exif=exif)


def film_of_two() -> bytes:
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


def prepared(page: Page, content: bytes, name: str, padding_bytes: int = 0) -> list[Any]:
    answer: list[Any] = page.evaluate(PREPARE, [base64.b64encode(content).decode(), name, padding_bytes])
    return answer


@pytest.mark.parametrize(
    ("content", "name", "size", "is_red_at"),
    [
        pytest.param(
            lambda: SVG.format('viewBox="0 0 20 10"').encode(), "plan.svg", (2048, 1024), (0.5, 0.5), id="SVG"
        ),
        pytest.param(
            lambda: b'<?xml version="1.0" encoding="UTF-16"?>' + SVG.format('width="40mm" height="100%"').encode(),
            "plan.txt",
            (2048, 1024),
            (0.01, 0.01),
            id="SVG of half a size, and by another name",
        ),
        pytest.param(lambda: saved(halves(64, 48), "ICO"), "icon.jpg", (48, 36), (0.25, 0.5), id="ICO named JPEG"),
        pytest.param(turned, "camera.jpg", (1024, 1365), (0.5, 0.25), id="EXIF, over 20 MB"),
        pytest.param(film_of_two, "film.gif", (64, 48), (0.5, 0.5), id="first frame"),
        pytest.param(
            lambda: saved(halves(12_000, 9_000), "JPEG"),
            "wall.jpg",
            (1365, 1024),
            (0.25, 0.5),
            id="108 megapixels",
        ),
    ],
)
def test_what_the_service_would_refuse_becomes_a_jpeg(
    page: Page, content: Callable[[], bytes], name: str, size: tuple[int, int], is_red_at: tuple[float, float]
) -> None:
    padding_bytes = 21 * MIB if name in OVER_THE_LIMIT else 0
    jpeg, _ = prepared(page, content(), name, padding_bytes)
    with Image.open(io.BytesIO(base64.b64decode(jpeg))) as drawn:
        assert (drawn.format, drawn.size) == ("JPEG", size)
        red, _, blue = drawn.convert("RGB").getpixel((int(size[0] * is_red_at[0]), int(size[1] * is_red_at[1])))  # type: ignore[misc]
        assert red > 200 > 50 > blue


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_what_the_service_reads_is_sent_as_it_is(page: Page, kind: str) -> None:
    _, is_the_file = prepared(page, saved(halves(64, 48), kind), "picture")
    assert is_the_file


@pytest.mark.parametrize(
    "content", [b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", b"not a picture", b"<p>no picture</p>", b""]
)
def test_what_neither_reads_is_named(page: Page, content: bytes) -> None:
    code, sentence = prepared(page, content, "holiday.jpg")
    assert code == "unreadable_image"
    assert sentence == "holiday.jpg cannot be shown by this browser: save it as JPEG, and choose that."


def test_a_slow_upload_tells_how_far_it_is_and_the_answer_comes_piece_by_piece(
    page: Page, service: CannedService
) -> None:
    network = page.context.new_cdp_session(page)
    speed = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": UPLOAD_BYTES_PER_S}
    network.send("Network.emulateNetworkConditions", speed)
    told = page.evaluate(SEND, ["/slow", UPLOAD_BYTES, PATIENCE_S * 1000])
    *shares, last = told["shares"]
    assert last is None
    shares = [share for share in shares if share is not None]
    assert len(shares) >= 3, "so often is it told at least in 2 s"
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] < 1
    assert [piece for piece, _ in told["pieces"]] == PIECES
    arrived_ms = [at for _, at in told["pieces"]]
    assert arrived_ms[-1] - arrived_ms[0] > 1000 * PIECE_EVERY_S, "they came together"

    for give_up_after_ms, wanted in ((700, 1), (1000 * UPLOAD_BYTES / UPLOAD_BYTES_PER_S + 400, 2)):
        assert page.evaluate(SEND, ["/slow", UPLOAD_BYTES, give_up_after_ms])["error"] == "TimeoutError"
        deadline_s = time.monotonic() + PATIENCE_S
        while service.given_up < wanted:
            assert time.monotonic() < deadline_s, "the service was not told"
            time.sleep(0.02)


def test_an_answer_without_a_body_is_a_failure_as_of_the_network(page: Page) -> None:
    assert page.evaluate(SEND, ["/none", 1, PATIENCE_S * 1000])["error"] == "TypeError"
