"""The fixed set of pictures that tests are told the truth about: real photographs, and simple drawings.

The photographs ship inside the scikit-image and scikit-learn wheels and are read by path, so no test needs a
network. The drawings are made here, the same on every run.

    photograph_path("coffee")    its file, to upload
    picture("sunset")            a photograph or a drawing
    pixels(picture("sunset"))    what a vision model is given
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

PHOTOGRAPHS = {
    "astronaut": "skimage/data/astronaut.png",  # woman in an orange suit before a white rocket and a flag
    "brick": "skimage/data/brick.png",  # grey wall of narrow bricks
    "camera": "skimage/data/camera.png",  # man in black with a tripod on pale grass, grey
    "chelsea": "skimage/data/chelsea.png",  # ginger cat's face, close
    "china": "sklearn/datasets/images/china.jpg",  # pagoda between trees above a lake, hazy daylight
    "coffee": "skimage/data/coffee.png",  # espresso on a red saucer on brown wood
    "flower": "sklearn/datasets/images/flower.jpg",  # orange dahlia before dark blue-green leaves
    "grass": "skimage/data/grass.png",  # grey texture
    "hubble": "skimage/data/hubble_deep_field.jpg",  # small galaxies on black
    "ihc": "skimage/data/ihc.png",  # brown-stained tissue on near-white
    "moon": "skimage/data/moon.png",  # grey lunar plain, few craters
    "motorcycle": "skimage/data/motorcycle_left.png",  # red motorcycle in a cluttered warm garage
    "page": "skimage/data/page.png",  # printed text, grey
    "retina": "skimage/data/retina.jpg",  # orange-red disc on black
    "rocket": "skimage/data/rocket.jpg",  # launch pad lamps under a deep blue evening sky
    "text": "skimage/data/text.png",  # handwriting on grey paper
}
"""Name → file inside site-packages."""

DRAWING_EDGE_PX = 448
"""Twice the model's edge, so that shrinking gives soft edges as a real upload has."""

Rgb = tuple[int, int, int]

CASES = Path(__file__).parents[1] / "cases" / "pictures"
"""Files of public bug reports, and what each must give."""


def photograph_path(name: str) -> Path:
    """Give the file of a photograph."""
    package, rest = PHOTOGRAPHS[name].split("/", 1)
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise LookupError(f"{package} is not installed; it carries the photograph {name!r}.")
    return Path(spec.submodule_search_locations[0]) / rest


def photograph(name: str) -> Image.Image:
    """Open a photograph as an RGB picture of its own size."""
    with Image.open(photograph_path(name)) as picture:
        return picture.convert("RGB")


def picture(name: str) -> Image.Image:
    """Give the photograph or the drawing of this name: RGB; a drawing is 448x448."""
    return DRAWINGS[name]() if name in DRAWINGS else photograph(name)


def pixels(image: Image.Image, edge_px: int = 224) -> NDArray[np.uint8]:
    """Shrink to a square, aspect not kept, as the service does: uint8, (edge, edge, 3)."""
    return np.asarray(image.convert("RGB").resize((edge_px, edge_px), Image.Resampling.BICUBIC))


def profile_of(case: str) -> bytes:
    """Give the ICC profile that one of the CASES has."""
    with Image.open(CASES / case) as picture:
        profile: bytes = picture.info["icc_profile"]
    return profile


def saved(image: Image.Image, format_name: str, **options: Any) -> bytes:
    """Give a picture's file."""
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Give a chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(row: bytes, bits: int, colour_type: int, before: bytes = b"", behind: bytes = b"") -> bytes:
    """Give a PNG of 64x64 pixels, every row the same, with chunks before and behind its pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, bits, colour_type, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress((b"\0" + row) * 64))
    return b"\x89PNG\r\n\x1a\n" + header + before + pixels + behind + png_chunk(b"IEND", b"")


def exif(orientation: int, order: str = "<", *, kind: int = 3, rest: bytes = b"") -> bytes:
    """Give EXIF with an orientation, of this type, and beside it the bytes of other entries, 12 each."""
    value = {1: "B3x", 3: "H2x", 4: "I"}[kind]
    entry = struct.pack(f"{order}HHI{value}", 274, kind, 1, orientation)
    head = struct.pack(f"{order}2sHIH", b"II" if order == "<" else b"MM", 42, 8, 1 + len(rest) // 12)
    return b"Exif\0\0" + head + entry + rest + bytes(4)


def header_of_png(width: int, height: int) -> bytes:
    """A PNG of this size whose content is missing but for its beginning."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(b"\0" * 1000))


def _blank(colour: Rgb) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (DRAWING_EDGE_PX, DRAWING_EDGE_PX), colour)
    return image, ImageDraw.Draw(image)


def _gradient(*stops: Rgb) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Blend evenly from the first colour at the top to the last at the bottom."""
    rows = np.linspace(0, len(stops) - 1, DRAWING_EDGE_PX)
    colours = np.array(stops, dtype=float)
    column = np.stack([np.interp(rows, range(len(stops)), colours[:, i]) for i in range(3)], axis=1)
    image = Image.fromarray(np.tile(column.astype(np.uint8)[:, None], (1, DRAWING_EDGE_PX, 1)))
    return image, ImageDraw.Draw(image)


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: Rgb) -> None:
    """Draw a disc; centre and radius are shares of the edge."""
    edge = DRAWING_EDGE_PX
    draw.ellipse(((x - radius) * edge, (y - radius) * edge, (x + radius) * edge, (y + radius) * edge), fill=colour)


def _band(draw: ImageDraw.ImageDraw, top: float, bottom: float, colour: Rgb) -> None:
    """Fill from one height to another, shares of the edge, over the whole width."""
    edge = DRAWING_EDGE_PX
    draw.rectangle((0, top * edge, edge, bottom * edge), fill=colour)


def _sunset() -> Image.Image:
    image, draw = _gradient((96, 40, 72), (224, 96, 48), (255, 190, 90))
    _disc(draw, 0.5, 0.62, 0.09, (255, 236, 170))
    _band(draw, 0.75, 1.0, (60, 24, 20))
    return image


def _night_sky() -> Image.Image:
    image, draw = _gradient((6, 8, 24), (14, 20, 46))
    for x, y, size in np.random.default_rng(3).random((140, 3)):
        _disc(draw, x, y, 0.001 + 0.003 * size, (230, 235, 255))
    return image


def _grey() -> Image.Image:
    return _blank((128, 128, 128))[0]


def _vivid_stripes() -> Image.Image:
    image, draw = _blank((255, 255, 255))
    colours: list[Rgb] = [(230, 30, 40), (250, 200, 0), (20, 160, 60), (20, 80, 220), (190, 30, 170), (250, 120, 0)]
    width = DRAWING_EDGE_PX / len(colours)
    for i, colour in enumerate(colours):
        draw.rectangle((i * width, 0, (i + 1) * width, DRAWING_EDGE_PX), fill=colour)
    return image


def _pastel_gradient() -> Image.Image:
    return _gradient((255, 214, 224), (232, 218, 250), (208, 236, 246))[0]


def _forest() -> Image.Image:
    image, draw = _gradient((70, 110, 60), (24, 52, 26))
    edge = DRAWING_EDGE_PX
    for x, y, size, green in np.random.default_rng(5).random((900, 4)):
        leaf = (int(20 + 60 * green), int(60 + 90 * green), int(20 + 40 * green))
        _disc(draw, x, y, 0.008 + 0.02 * size, leaf)
    for x in (0.12, 0.3, 0.47, 0.66, 0.85):
        draw.rectangle((x * edge, 0.2 * edge, (x + 0.03) * edge, edge), fill=(62, 44, 30))
    return image


def _sea_and_sky() -> Image.Image:
    image, draw = _gradient((96, 160, 225), (190, 222, 245), (190, 222, 245))
    edge = DRAWING_EDGE_PX
    _band(draw, 0.5, 1.0, (24, 92, 140))
    for x, y, length in np.random.default_rng(11).random((160, 3)):
        wave_y = (0.52 + 0.48 * y) * edge
        draw.line((x * edge, wave_y, (x + 0.02 + 0.06 * length) * edge, wave_y), fill=(90, 150, 190), width=2)
    return image


def _checkerboard() -> Image.Image:
    image, draw = _blank((255, 255, 255))
    cell = DRAWING_EDGE_PX / 7
    for row in range(7):
        for column in range(row % 2, 7, 2):
            draw.rectangle((column * cell, row * cell, (column + 1) * cell, (row + 1) * cell), fill=(0, 0, 0))
    return image


def _centred_disc() -> Image.Image:
    image, draw = _blank((238, 236, 230))
    _disc(draw, 0.5, 0.5, 0.2, (178, 34, 40))
    return image


def _neon_on_black() -> Image.Image:
    image, draw = _blank((6, 4, 12))
    edge = DRAWING_EDGE_PX
    colours: list[Rgb] = [(255, 16, 240), (0, 255, 200), (57, 255, 20), (255, 240, 0), (20, 120, 255)]
    for i, colour in enumerate(colours):
        inset = (0.06 + 0.085 * i) * edge
        draw.rectangle((inset, inset, edge - inset, edge - inset), outline=colour, width=12)
    return image


def _line_drawing() -> Image.Image:
    """Draw a house with a tree, black pencil on white paper."""
    image, draw = _blank((252, 251, 248))
    edge = DRAWING_EDGE_PX
    house = [(0.2, 0.8), (0.2, 0.5), (0.38, 0.3), (0.56, 0.5), (0.56, 0.8), (0.2, 0.8)]
    tree = [(0.74, 0.8), (0.74, 0.55), (0.66, 0.55), (0.75, 0.25), (0.84, 0.55), (0.76, 0.55), (0.76, 0.8)]
    ink: Rgb = (40, 40, 42)
    for shape in (house, tree, [(0.2, 0.5), (0.56, 0.5)], [(0.05, 0.8), (0.95, 0.8)]):
        draw.line([(x * edge, y * edge) for x, y in shape], fill=ink, width=3)
    for i in range(24):
        x = 0.22 + i * 0.0145
        draw.line((x * edge, 0.52 * edge, (x - 0.01) * edge, 0.6 * edge), fill=ink, width=2)
    return image


def _pixel_sprite() -> Image.Image:
    """Draw a sixteen-colour-like creature on a 16x16 grid, enlarged without smoothing."""
    rows = (
        "................",
        "................",
        "....r......r....",
        ".....r....r.....",
        "....rrrrrrrr....",
        "...rrwrrrrwrr...",
        "..rrrkrrrrkrrr..",
        "..rrrrrrrrrrrr..",
        "..ryyyyyyyyyyr..",
        "..r.rrrrrrrr.r..",
        "..r.r......r.r..",
        ".....rr..rr.....",
        "................",
        "gggggggggggggggg",
        "ggbggggbggggbggg",
        "bbbbbbbbbbbbbbbb",
    )
    paint: dict[str, Rgb] = {
        ".": (92, 148, 252),
        "r": (216, 40, 0),
        "w": (252, 252, 252),
        "k": (0, 0, 0),
        "y": (252, 188, 60),
        "g": (0, 168, 0),
        "b": (136, 80, 0),
    }
    grid = np.array([[paint[cell] for cell in row] for row in rows], dtype=np.uint8)
    return Image.fromarray(grid).resize((DRAWING_EDGE_PX, DRAWING_EDGE_PX), Image.Resampling.NEAREST)


def _fog() -> Image.Image:
    image, draw = _gradient((186, 192, 196), (200, 204, 206), (172, 178, 182))
    _hills(draw, 0.6, 0.05, (176, 182, 187))
    _hills(draw, 0.75, 0.04, (160, 166, 171))
    return image.filter(ImageFilter.GaussianBlur(4))


def _hills(draw: ImageDraw.ImageDraw, height: float, swing: float, colour: Rgb) -> None:
    edge = DRAWING_EDGE_PX
    steps = [i / 64 for i in range(65)]
    ridge = [(x * edge, (height + swing * math.sin(7 * x + 20 * height)) * edge) for x in steps]
    for (left, left_y), (right, right_y) in pairwise(ridge):
        draw.polygon([(left, left_y), (right, right_y), (right, edge), (left, edge)], fill=colour)


def _candle() -> Image.Image:
    """Draw a small flame and its glow in a black room."""
    rows, columns = np.mgrid[0:DRAWING_EDGE_PX, 0:DRAWING_EDGE_PX] / DRAWING_EDGE_PX
    glow = np.exp(-((columns - 0.5) ** 2 + (rows - 0.45) ** 2) / 0.02)
    room = np.stack([20 + 200 * glow, 10 + 110 * glow, 6 + 30 * glow], axis=2)
    image = Image.fromarray(room.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    edge = DRAWING_EDGE_PX
    draw.rectangle((0.47 * edge, 0.5 * edge, 0.53 * edge, 0.8 * edge), fill=(150, 120, 80))
    draw.ellipse((0.48 * edge, 0.38 * edge, 0.52 * edge, 0.5 * edge), fill=(255, 230, 150))
    return image


def _sepia() -> Image.Image:
    """Tone the photograph of the man with the camera brown, and fade it."""
    grey = np.asarray(photograph("camera").resize((DRAWING_EDGE_PX, DRAWING_EDGE_PX)).convert("L")) / 255
    faded = 0.2 + 0.6 * grey[..., None]
    return Image.fromarray((faded * np.array([255, 222, 178])).astype(np.uint8))


DRAWINGS: dict[str, Callable[[], Image.Image]] = {
    "candle": _candle,
    "centred disc": _centred_disc,
    "checkerboard": _checkerboard,
    "fog": _fog,
    "forest": _forest,
    "grey": _grey,
    "line drawing": _line_drawing,
    "neon on black": _neon_on_black,
    "night sky": _night_sky,
    "pastel gradient": _pastel_gradient,
    "pixel sprite": _pixel_sprite,
    "sea and sky": _sea_and_sky,
    "sepia": _sepia,
    "sunset": _sunset,
    "vivid stripes": _vivid_stripes,
}
"""Name → the function that draws it."""
