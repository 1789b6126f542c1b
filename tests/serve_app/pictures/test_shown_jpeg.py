"""The JPEG that a model is shown: of what was decoded, small, upright, in sRGB, nothing else in it, always the same."""

from __future__ import annotations

import asyncio
import io
import statistics
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serve_app.pictures.images import read_picture
from serve_app.settings import ImageSettings
from tests.serve_app.pictures.test_decoding import COSTLY, EDGE_PX, decoder
from tests.support.pictures import exif, photograph, profile_of, saved

MOST_PX = 768


def shown(data: bytes, longest_px: int = MOST_PX, **settings: Any) -> Image.Image:
    jpeg = read_picture(data, ImageSettings(**settings), 224, longest_px).jpeg
    assert jpeg.startswith(b"\xff\xd8\xff")
    assert jpeg != data
    opened = Image.open(io.BytesIO(jpeg))
    opened.load()
    assert (opened.format, opened.mode) == ("JPEG", "RGB")
    assert {*opened.info} <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    return opened


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize(
    ("size", "longest_px", "expected"),
    [
        ((1200, 900), MOST_PX, (768, 576)),
        ((900, 1200), 512, (384, 512)),
        ((300, 200), MOST_PX, (300, 200)),
        ((16, 12), MOST_PX, (43, 32)),
        ((1000, 4), MOST_PX, (768, 32)),
    ],
)
def test_of_every_format_one_is_made_with_the_aspect_of_the_picture(
    kind: str, size: tuple[int, int], longest_px: int, expected: tuple[int, int]
) -> None:
    data = saved(photograph("china").resize(size), kind)
    picture = shown(data, longest_px, exact=True)
    assert picture.size == expected
    once_more = read_picture(data, ImageSettings(exact=True), 224, longest_px)
    assert once_more.jpeg == read_picture(data, ImageSettings(exact=True), 224, longest_px).jpeg
    without = read_picture(data, ImageSettings(exact=True), 224)
    assert without.jpeg == b""
    assert np.array_equal(without.pixels, once_more.pixels)
    assert without.palette == once_more.palette


def test_of_a_large_jpeg_it_is_the_fraction_that_was_decoded() -> None:
    large = photograph("china").resize((1600, 1200))
    assert shown(saved(large, "JPEG")).size == (400, 300)


@pytest.mark.parametrize(
    ("size", "expected"), [((1600, 1200), (534, 400)), ((1024, 768), (512, 384)), ((900, 600), (768, 512))]
)
def test_what_is_decoded_whole_is_averaged_where_that_leaves_enough(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert shown(saved(photograph("china").resize(size), "PNG")).size == expected


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_it_is_upright_without_saying_so(kind: str) -> None:
    lying = Image.new("RGB", (400, 200), "red")
    lying.paste("blue", (0, 0, 200, 200))
    tagged = saved(
        lying,
        kind,
        exif=exif(6) if kind == "JPEG" else Image.Exif(),
        **({"tiffinfo": {274: 6}} if kind == "TIFF" else {}),
    )
    picture = shown(tagged)
    assert picture.size == (200, 400)
    assert near(picture, (100, 100), (0, 0, 255))
    assert near(picture, (100, 300), (255, 0, 0))


def test_its_colours_are_srgb_on_white_and_its_comment_and_profile_are_gone() -> None:
    wide = Image.new("RGB", (400, 300), (200, 100, 50))
    jpeg = saved(wide, "JPEG", icc_profile=profile_of("icc_p3_jpeg"), comment=b"where it was taken", quality=95)
    picture = shown(jpeg)
    brought = read_picture(jpeg, ImageSettings(), 224).pixels[0, 0]
    assert not near(picture, (9, 9), (200, 100, 50))
    assert near(picture, (9, 9), tuple(map(int, brought)))
    assert near(shown(saved(Image.new("RGBA", (400, 300), (0, 0, 0, 0)), "PNG")), (9, 9), (255, 255, 255))


def near(picture: Image.Image, at: tuple[int, int], colour: tuple[int, ...]) -> bool:
    return bool(np.abs(np.subtract(picture.getpixel(at), colour)).max() <= 6)  # type: ignore[arg-type]


def test_a_jpeg_that_lost_its_end_is_shown_too() -> None:
    whole = saved(photograph("china").resize((1600, 1200)), "JPEG")
    assert shown(whole[:-20]).size == (400, 300)


async def test_a_process_that_decodes_makes_the_same_one() -> None:
    decoding = decoder()
    there = await decoding.decode(COSTLY, EDGE_PX, MOST_PX)
    assert there.jpeg == read_picture(COSTLY, ImageSettings(), EDGE_PX, MOST_PX).jpeg
    assert (await decoding.decode(COSTLY, EDGE_PX)).jpeg == b""
    await asyncio.sleep(0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_it_costs_three_milliseconds_of_cpu_at_most(kind: str) -> None:
    upload = saved(photograph("china").resize((1600, 1200)), kind)

    def cpu_ms(longest_px: int) -> float:
        began_s = time.thread_time()
        read_picture(upload, ImageSettings(), 224, longest_px)
        return (time.thread_time() - began_s) * 1000

    added = [cpu_ms(MOST_PX) - cpu_ms(0) for _ in range(15)]
    assert statistics.median(added) <= 3
