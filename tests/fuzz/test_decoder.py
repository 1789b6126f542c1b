"""Thousands of broken uploads: each is refused by name or decoded, quickly, and in little memory."""

from __future__ import annotations

import functools
import random
import resource
import time
import warnings
from collections import Counter
from collections.abc import Callable
from multiprocessing import get_context

import numpy as np
import pytest

from deployments.errors import FormatNotAccepted, TooManyPixels, UnreadablePicture
from serve_app.images import read_picture
from serve_app.settings import ImageSettings
from tests.fuzz.nasty import NASTY, SMALL, png_chunk, png_with, saved

SEED = 2026
MUTANTS_PER_FILE = 300
LONGEST_S = 2.0
"""For one upload of any kind; the machine may be busy."""
MOST_MIB = 250
"""By which the process that decodes the nasty ones may grow: what the largest that is allowed decodes to, and room."""

FILES = {
    "jpeg": lambda: saved(SMALL, "JPEG"),
    "jpeg progressive": lambda: saved(SMALL, "JPEG", progressive=True),
    "jpeg cmyk": lambda: saved(SMALL.convert("CMYK"), "JPEG"),
    "jpeg rotated": lambda: saved(
        SMALL, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"
    ),
    "mpo": lambda: saved(SMALL, "MPO", save_all=True, append_images=[SMALL]),
    "png": lambda: saved(SMALL, "PNG"),
    "png palette": lambda: saved(SMALL.convert("P"), "PNG", transparency=0),
    "png 16 bit": lambda: saved(SMALL.convert("I;16"), "PNG"),
    "png interlaced text": lambda: png_with(png_chunk(b"tEXt", b"Comment\0hello")),
    "webp": lambda: saved(SMALL, "WEBP"),
    "webp lossless alpha": lambda: saved(SMALL.convert("RGBA"), "WEBP", lossless=True),
    "webp animated": lambda: saved(SMALL, "WEBP", save_all=True, append_images=[SMALL.rotate(90)]),
    "gif animated": lambda: saved(SMALL, "GIF", save_all=True, append_images=[SMALL.rotate(90)]),
    "bmp": lambda: saved(SMALL, "BMP"),
    "tiff lzw": lambda: saved(SMALL, "TIFF", compression="tiff_lzw"),
    "tiff deflate": lambda: saved(SMALL, "TIFF", compression="tiff_deflate"),
    "tiff float": lambda: saved(SMALL.convert("F"), "TIFF"),
}

Mutation = Callable[[bytes, random.Random], bytes]


def truncated(data: bytes, choice: random.Random) -> bytes:
    return data[: choice.randrange(len(data))]


def flipped(data: bytes, choice: random.Random) -> bytes:
    mutant = bytearray(data)
    for _ in range(choice.choice((1, 2, 8, 64))):
        mutant[choice.randrange(len(mutant))] ^= 1 << choice.randrange(8)
    return bytes(mutant)


def header_flipped(data: bytes, choice: random.Random) -> bytes:
    return flipped(data[:64], choice) + data[64:]


def number_changed(data: bytes, choice: random.Random) -> bytes:
    at = choice.randrange(max(1, len(data) - 4))
    number = choice.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x01"))
    return data[:at] + number + data[at + 4 :]


def cut_out(data: bytes, choice: random.Random) -> bytes:
    first, last = sorted(choice.sample(range(len(data)), 2))
    return data[:first] + data[last:]


def doubled(data: bytes, choice: random.Random) -> bytes:
    first, last = sorted(choice.sample(range(len(data)), 2))
    return data[:last] + data[first:]


def spliced(data: bytes, choice: random.Random) -> bytes:
    other = FILES[choice.choice(list(FILES))]()
    return data[: choice.randrange(len(data))] + other[choice.randrange(len(other)) :]


MUTATIONS: tuple[Mutation, ...] = (truncated, flipped, header_flipped, number_changed, cut_out, doubled, spliced)


def outcome(data: bytes) -> str:
    """Decode, and name what came of it; anything but a picture and the named refusals is a defect and raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow remarks on much that is broken; the service logs it.
        try:
            pixels = read_picture(data, ImageSettings(), 224).pixels
        except (UnreadablePicture, FormatNotAccepted, TooManyPixels) as refusal:
            return refusal.code
    assert pixels.shape == (224, 224, 3)
    assert pixels.dtype == np.uint8
    return "picture"


@pytest.mark.parametrize("name", FILES)
def test_a_broken_file_is_refused_by_name_or_decoded_and_quickly(name: str) -> None:
    choice = random.Random(f"{SEED} {name}")  # noqa: S311 - no secret
    original = FILES[name]()
    assert outcome(original) == "picture"
    outcomes: Counter[str] = Counter()
    for _ in range(MUTANTS_PER_FILE):
        mutant = choice.choice(MUTATIONS)(original, choice)
        began_s = time.perf_counter()
        outcomes[outcome(mutant)] += 1
        assert time.perf_counter() - began_s < LONGEST_S, mutant.hex()
    assert outcomes["picture"], outcomes
    assert outcomes["unreadable_image"], outcomes


def grown_by_mib(name: str) -> tuple[str, float, float]:
    """Give outcome, seconds, and by how many MiB the peak of this process' memory has grown."""
    data = NASTY[name]()
    outcome(saved(SMALL, "PNG"))
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began_s = time.perf_counter()
    came_of_it = outcome(data)
    spent_s = time.perf_counter() - began_s
    return came_of_it, spent_s, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024


PICTURES = {
    *("thin", "flat", "pixel", "many_frames", "many_pages", "profile_broken", "exif_broken", "exif_strange_rotation"),
    *("html_behind", "zip_behind", "tiff_endless"),
}
TOO_LARGE = {"png_bomb", "png_largest_width", "jpeg_bomb", "gif_bomb", "bmp_bomb"}
OTHER_FORMATS = {"heic", "postscript"}


@pytest.mark.parametrize("name", NASTY)
def test_what_is_made_to_hurt_costs_little(name: str) -> None:
    with get_context("spawn").Pool(1) as process:
        came_of_it, spent_s, grown_mib = process.apply(functools.partial(grown_by_mib, name))
    if name in PICTURES:
        assert came_of_it == "picture"
    elif name in TOO_LARGE:
        assert came_of_it == "too_many_pixels"
    elif name in OTHER_FORMATS:
        assert came_of_it == "format_not_accepted"
    else:
        assert came_of_it in {"picture", "unreadable_image", "too_many_pixels"}
    assert spent_s < LONGEST_S
    assert grown_mib < MOST_MIB
