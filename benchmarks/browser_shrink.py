"""What shrinking a picture in the browser saves, and what it changes: `python -m benchmarks.browser_shrink FOLDER`.

FOLDER holds a model of the CLIP family; a full-size one with random weights comes from
`python -m tests.support.tiny_clip FOLDER --full-size`. Needs Node and Chromium, and no service.
"""

from __future__ import annotations

import argparse
import base64
import io
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from benchmarks.score_shift import ENGINES
from deployments.clip.labels import load_labels
from deployments.clip.model import encoder_in_torch
from deployments.clip.settings import DEFAULT_LABELS_FILE
from tests.support.browser import CHROMIUM_FLAGS, chromium, installed_frontend, run_npm
from tests.support.pictures import photograph
from tests.support.reference import PHOTOGRAPHS, largest_difference, our_scores

CAMERA_PX = (4000, 3000)
GRAIN_LEVELS = 4.0
"""Standard deviation of the noise, of 255 levels: without it an enlarged picture is far smaller than a camera's."""

UPLINK_BYTES_PER_S = 10e6 / 8
"""10 Mbit/s: what a home line sends at."""

MODULES = "http://modules.test/"
"""An address that nobody asks: what is asked of it is answered with the package's modules."""

SHRINK = """async (picture) => {
    const { preparePicture } = await import("/shrink.js");
    const file = new Blob([Uint8Array.from(atob(picture), (character) => character.charCodeAt(0))]);
    const startedMs = performance.now();
    const shrunk = await preparePicture(file, { small: true });
    const tookMs = performance.now() - startedMs;
    const bytes = Array.from(new Uint8Array(await shrunk.arrayBuffer()), (byte) => String.fromCharCode(byte));
    return [btoa(bytes.join("")), tookMs];
}"""


def main() -> None:
    """Print a line per photograph, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    labels = load_labels(DEFAULT_LABELS_FILE)
    encoder = encoder_in_torch(folder, name=folder.name, make_engine=ENGINES["torch float32"])
    modules = _compiled_modules()
    rows: list[tuple[float, ...]] = []
    print(f"{'photograph':12}{'KB':>8}{'sent KB':>10}{'browser ms':>12}{'saved s at 10 Mbit/s':>22}{'score shift':>13}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_FLAGS)
        page = browser.new_page()
        page.route(f"{MODULES}*", lambda route: route.fulfill(body=""))
        page.route(f"{MODULES}*.js", lambda route: route.fulfill(path=modules / Path(route.request.url).name))
        page.goto(MODULES)
        for name in PHOTOGRAPHS:
            camera = _camera_jpeg(photograph(name))
            answer: list[Any] = page.evaluate(SHRINK, base64.b64encode(camera).decode())
            shrunk, took_ms = base64.b64decode(answer[0]), answer[1]
            shift = largest_difference(
                our_scores(encoder, camera, labels, exact=False), our_scores(encoder, shrunk, labels, exact=False)
            )
            saved_s = (len(camera) - len(shrunk)) / UPLINK_BYTES_PER_S - took_ms / 1000
            rows.append((len(camera) / 1000, len(shrunk) / 1000, took_ms, saved_s, shift))
            _print_row(name, rows[-1])
        browser.close()
    _print_row("median", tuple(statistics.median(column) for column in zip(*rows, strict=True)))


def _camera_jpeg(image: Image.Image) -> bytes:
    enlarged = np.asarray(image.convert("RGB").resize(CAMERA_PX, Image.Resampling.BICUBIC), dtype=np.float32)
    grain = np.random.default_rng(0).normal(0, GRAIN_LEVELS, (*enlarged.shape[:2], 1))
    buffer = io.BytesIO()
    Image.fromarray((enlarged + grain).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _print_row(name: str, row: tuple[float, ...]) -> None:
    original_kb, sent_kb, took_ms, saved_s, shift = row
    print(f"{name:12}{original_kb:8.0f}{sent_kb:10.0f}{took_ms:12.0f}{saved_s:22.1f}{shift:13.4f}")


def _compiled_modules() -> Path:
    frontend = installed_frontend()
    run_npm(frontend, "run", "--silent", "prepack")
    return frontend / "dist"


if __name__ == "__main__":
    main()
