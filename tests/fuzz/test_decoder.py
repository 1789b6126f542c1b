"""Thousands of broken uploads: each is refused by name or decoded, quickly, and in little memory.

Beside files broken at random, those made to hurt: small ones that promise much, that are two things, with broken parts.
"""

from __future__ import annotations

import random
import resource
import struct
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from multiprocessing import get_context

import numpy as np
import pytest
from PIL import Image

from deployments.errors import FormatNotAccepted, TooManyPixels, UnreadablePicture
from serve_app.pictures.images import read_picture
from serve_app.settings import ImageSettings
from tests.support.pictures import exif, header_of_png, photograph, png_chunk, profile_of, saved

SEED = 2026
MUTANTS_PER_FILE = 300
LONGEST_S = 2.0
"""Of CPU, for one upload of any kind."""
MOST_MIB = 250
"""By which the process that decodes the nasty ones may grow: what the largest that is allowed decodes to, and room."""

HUGE_PX = 60_000
INFLATED_BYTES = 300_000_000
FRAMES = 10_000


SMALL = photograph("rocket").resize((64, 48))
JPEG, PNG, GIF = saved(SMALL, "JPEG"), saved(SMALL, "PNG"), saved(SMALL, "GIF")
HTML = b"<html><script>alert(1)</script></html>"
ZIP = b"PK\x03\x04" + bytes(26) + b"PK\x05\x06" + bytes(18)


def png_with(chunk: bytes) -> bytes:
    """Give a good PNG with a chunk after its header."""
    return PNG[:33] + chunk + PNG[33:]


FILES = {
    "jpeg": lambda: saved(SMALL, "JPEG"),
    "jpeg progressive": lambda: saved(SMALL, "JPEG", progressive=True),
    "jpeg cmyk": lambda: saved(SMALL.convert("CMYK"), "JPEG"),
    "jpeg rotated": lambda: saved(SMALL, "JPEG", exif=exif(6)),
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
    "jpeg of Display P3": lambda: saved(SMALL, "JPEG", icc_profile=profile_of("icc_p3_jpeg")),
    "avif": lambda: saved(SMALL, "AVIF", exif=exif(6)),
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
        began_s = time.process_time()
        outcomes[outcome(mutant)] += 1
        assert time.process_time() - began_s < LONGEST_S, mutant.hex()
    assert outcomes["picture"], outcomes
    assert outcomes["unreadable_image"], outcomes


def inflating(kind: bytes, name: bytes) -> bytes:
    """Give a chunk with 300 MB of text or colour profile, packed into 300 KB."""
    return png_chunk(kind, name + b"\0\0" + zlib.compress(bytes(INFLATED_BYTES), 9))


def resized_in_header(data: bytes, at: int, layout: str, size: tuple[int, int] = (HUGE_PX, HUGE_PX)) -> bytes:
    """Write other dimensions over those of a file."""
    return data[:at] + struct.pack(layout, *size) + data[at + struct.calcsize(layout) :]


def animated_gif() -> bytes:
    """Give a GIF with ten thousand frames."""
    frame = b"\x21\xf9\x04\0\0\0\0\0\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0"
    return b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff" + frame * FRAMES + b";"


def endless_directory() -> bytes:
    """Give a TIFF whose directory says that it comes after itself."""
    tiff = saved(SMALL, "TIFF")
    (first,) = struct.unpack("<I", tiff[4:8])
    (count,) = struct.unpack("<H", tiff[first : first + 2])
    behind = first + 2 + 12 * count
    return tiff[:behind] + struct.pack("<I", first) + tiff[behind + 4 :]


NASTY: dict[str, tuple[str, Callable[[], bytes]]] = {
    "tiff_endless": ("picture", lambda: endless_directory()),
    "thin": ("picture", lambda: saved(Image.new("RGB", (1, 50_000)), "PNG")),
    "flat": ("picture", lambda: saved(Image.new("RGB", (50_000, 1)), "PNG")),
    "pixel": ("picture", lambda: saved(Image.new("RGB", (1, 1)), "PNG")),
    "many_frames": ("picture", lambda: animated_gif()),
    "chunks": ("unreadable_image", lambda: png_with(png_chunk(b"teXt", b"") * 1_500_000)),
    "empty_pixels": ("unreadable_image", lambda: png_with(png_chunk(b"IDAT", b"") * 1_500_000)),
    "profiles": ("picture", lambda: png_with(inflating(b"iCCP", b"icc") * 60)),
    "restarts": ("picture", lambda: JPEG[:-2] + b"\xff\xd0" * 9_000_000),
    "elements_of_profile": (
        "picture",
        lambda: saved(SMALL, "JPEG", icc_profile=profile_of("icc_p3_jpeg") + b"mpet" * 100_000),
    ),
    "many_pages": ("picture", lambda: saved(SMALL, "TIFF", save_all=True, append_images=[SMALL] * 300)),
    "profile_broken": ("picture", lambda: saved(SMALL, "JPEG", icc_profile=b"no profile" * 100)),
    "exif_broken": ("picture", lambda: saved(SMALL, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")),
    "exif_strange_rotation": ("picture", lambda: saved(SMALL, "JPEG", exif=exif(0xFFFF))),
    "html_behind": ("picture", lambda: JPEG + HTML),
    "zip_behind": ("picture", lambda: GIF + ZIP),
    "png_bomb": ("too_many_pixels", lambda: header_of_png(HUGE_PX, HUGE_PX)),
    "png_largest_width": ("too_many_pixels", lambda: header_of_png(2**31 - 1, 2**31 - 1)),
    "jpeg_bomb": ("too_many_pixels", lambda: resized_in_header(JPEG, JPEG.index(b"\xff\xc0") + 5, ">HH")),
    "gif_bomb": ("too_many_pixels", lambda: resized_in_header(GIF, 6, "<HH")),
    "bmp_bomb": ("too_many_pixels", lambda: resized_in_header(saved(SMALL, "BMP"), 18, "<ii")),
    "postscript": (
        "format_not_accepted",
        lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\nshowpage\n",
    ),
    "heic": ("format_not_accepted", lambda: b"\0\0\0\x18ftypheic\0\0\0\0heicmif1"),
    "nothing": ("unreadable_image", lambda: b""),
    "one_byte": ("unreadable_image", lambda: b"\xff"),
    "png_no_width": ("unreadable_image", lambda: header_of_png(0, 5)),
    "bmp_negative": (
        "too_many_pixels",
        lambda: resized_in_header(saved(SMALL, "BMP"), 18, "<ii", (-5, -(2**31))),
    ),
    "webp_bomb": ("too_many_pixels", lambda: resized_in_header(saved(SMALL, "WEBP"), 26, "<HH")),
    "text_inflates": ("picture", lambda: png_with(inflating(b"zTXt", b"Comment"))),
    "profile_inflates": ("picture", lambda: png_with(inflating(b"iCCP", b"icc"))),
    "html_before": ("unreadable_image", lambda: HTML + JPEG),
    "pdf_before": ("unreadable_image", lambda: b"%PDF-1.7\n" + JPEG),
    "svg": (
        "unreadable_image",
        lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    ),
}
"""Name → what comes of it, and how it is made."""


def decode_nasty() -> tuple[dict[str, str], dict[str, float], float]:
    """Give for each what came of it and the CPU's seconds, and by how many MiB this process' peak has grown."""
    outcomes, spent_s = {}, {}
    outcome(saved(SMALL, "PNG"))
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, (_, make) in NASTY.items():
        data = make()
        began_s = time.process_time()
        outcomes[name] = outcome(data)
        spent_s[name] = time.process_time() - began_s
    return outcomes, spent_s, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024


def test_what_is_made_to_hurt_is_known_for_what_it_is_and_costs_little() -> None:
    with get_context("spawn").Pool(1) as process:
        outcomes, spent_s, grown_mib = process.apply(decode_nasty)
    assert outcomes == {name: expected for name, (expected, _) in NASTY.items()}
    assert max(spent_s.values()) < LONGEST_S, spent_s
    assert grown_mib < MOST_MIB
