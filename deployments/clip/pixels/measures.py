"""What can be measured on a picture without knowing what it shows: light, colour, structure, layout.

Every measure is a float from 0 to 1. Colour is taken in CIE L*a*b* (sRGB, D65): L* is lightness (0 to 100),
chroma is the distance from grey (0 to 134 within sRGB; about 20 looks tinted, 60 looks vivid), hue is an angle
(red 40°, yellow 103°, green 136°, cyan 196°, blue 306°, magenta 328°). Edges are measured on lightness, in L*
per pixel, and so depend on the size of the picture: prototypes expect 224x224.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from deployments.types import Pixels

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]

WARM_HUE = np.deg2rad(65.0)
"""Orange: the middle of the hues that people call warm; its opposite, 245°, is the blue of a clear sky."""

NEARLY_GREY_CHROMA = 6.0
"""Below this a tint is hardly seen; keeps camera noise in grey pictures from passing for colour."""

EDGE_L_PER_PX = 6.0
"""A gradient this steep is seen as an edge; a black-to-white step has 50 on both of its sides."""

FLAT_LEVELS = 2
"""Neighbours that differ by no more than this in every channel are one area; leaves room for JPEG."""

EXTREMELY_COLOURFUL = 109.0
"""The top of the seven-step scale of Hasler and Süsstrunk (2003), "extremely colorful"."""

BLOCKS = 16
"""Layout is read on a grid of this many cells a side."""

NEARLY_EMPTY = 0.5
"""L* per pixel: a cell with less mean gradient than this shows nothing."""

LIGHTNESS_NOISE = 2.0
"""L* units: layout differences below this are not seen."""

_LINEAR = np.array(
    [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in np.arange(256) / 255], dtype=np.float32
)
_XYZ_OVER_WHITE = (
    np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
    / np.array([[0.95047], [1.0], [1.08883]])
).astype(np.float32)
_LAB_KNEE = (6 / 29) ** 3


@dataclass(frozen=True, slots=True)
class PixelMeasures:
    """One picture in numbers, each 0 to 1. "Share" is the share of the picture's pixels."""

    lightness: float
    """Mean L* / 100."""
    contrast: float
    """Standard deviation of L* / 35, at most 1: 0.4 is an even daylight scene, 1 is deep shadow beside white."""
    dark_share: float
    """Share with L* under 25."""
    bright_share: float
    """Share with L* over 75."""
    highlights: float
    """How far the brightest hundredth lies above the median, L* / 100: lamps, stars, a low sun."""

    chroma: float
    """Mean chroma / 100, at most 1."""
    peak_chroma: float
    """95th percentile of chroma / 100, at most 1."""
    colourfulness: float
    """Hasler and Süsstrunk (2003), "Measuring colourfulness in natural images", M / 109, at most 1."""
    warmth: float
    """0 all cool, 0.5 neutral or balanced, 1 all warm: chroma along the warm hue over chroma in all."""
    hue_spread: float
    """Circular variance of hue, weighted by chroma: 0 is one hue (or none), 1 is opposites in balance."""
    vivid_share: float
    """Share with chroma over 55."""
    pastel_share: float
    """Share that is light (L* over 70) and tinted (chroma 6 to 40)."""
    neon_share: float
    """Share that shines: HSV value over 0.9 and saturation over 0.8."""
    earth_share: float
    """Share of browns and ochres: hue 40° to 100°, chroma 10 to 50, L* 15 to 70."""
    green_share: float
    """Share of foliage hues: 100° to 165°, chroma over 10."""
    blue_share: float
    """Share of sky and sea hues: 195° to 310°, chroma over 6."""
    blue_above: float
    """Share of those hues within the upper third, L* over 30: a day sky."""
    skin_share: float
    """Share inside the skin box of Chai and Ngan (1999): Cb 77 to 127, Cr 133 to 173; any skin tone, and wood."""
    paper_share: float
    """Share of blank paper: L* over 85, chroma under 10."""
    distinct_colours: float
    """log2 of how many of the 32768 5-bit colours occur, over log2 of how many could at this size."""

    flatness: float
    """Share that equals its right and lower neighbours within two levels: fills and blank sky."""
    edge_density: float
    """Share on an edge of lightness."""
    fine_detail: float
    """Mean departure of L* from its 3x3 neighbourhood / 10, at most 1: texture and grain."""
    diagonal_edges: float
    """Share of gradient nearer to a diagonal than to upright or level; 0.5 in a texture without direction."""
    edge_coherence: float
    """Coherence of the structure tensor of the whole picture: 1 when all edges run one way."""
    radial_edges: float
    """0 edges ring the centre, 0.5 no relation, 1 edges run to the centre."""

    symmetry: float
    """Correlation of the picture's layout with its mirror image, left for right; 1 when nothing is seen."""
    emptiness: float
    """Share of the layout's cells that show nothing."""
    centre_detail: float
    """Share of gradient in the middle quarter of the area; 0.25 when even."""
    centre_apart: float
    """Colour difference (CIE 1976) between the middle ninth and the outer ring / 60, at most 1."""
    off_centre: float
    """How far left or right of the middle the detail balances; 1 is at the rim."""
    detail_below: float
    """Share of gradient in the lower half; 0.5 when even."""
    detail_clumping: float
    """Half the mean deviation of the cells' detail over its mean: 0 even all over, 1 all in one place."""
    light_above: float
    """0.5 + half the L* by which the upper third is lighter than the lower third / 100."""


MEASURE_NAMES = tuple(field.name for field in fields(PixelMeasures))


def measure(picture: Pixels) -> PixelMeasures:
    """Measure one picture: uint8, (height, width, 3), RGB, any size from 1x1."""
    lab = to_lab(picture)
    return PixelMeasures(**_light(lab[0]), **_colour(picture, lab), **_structure(picture, lab[0]), **_layout(lab))


def to_lab(picture: Pixels) -> NDArray[np.float32]:
    """Convert sRGB (D65) to CIE L*a*b*: float32, (3, height, width)."""
    linear = np.moveaxis(_LINEAR[picture], -1, 0).reshape(3, -1)
    xyz = _XYZ_OVER_WHITE @ linear
    f = np.where(xyz > _LAB_KNEE, np.cbrt(xyz), xyz * np.float32(841 / 108) + np.float32(4 / 29))
    lab = np.stack([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])
    return lab.reshape(3, *picture.shape[:2])


def _light(lightness: Plane) -> dict[str, float]:
    median, highest = np.percentile(lightness, (50, 99))
    return {
        "lightness": _unit(lightness.mean() / 100),
        "contrast": _unit(lightness.std() / 35),
        "dark_share": _share(lightness < 25),
        "bright_share": _share(lightness > 75),
        "highlights": _unit((highest - median) / 100),
    }


def _colour(picture: Pixels, lab: NDArray[np.float32]) -> dict[str, float]:
    lightness, a, b = lab
    chroma = np.hypot(a, b)
    hue = np.rad2deg(np.arctan2(b, a)) % 360
    mean_chroma = float(chroma.mean())
    grey_guard = mean_chroma + NEARLY_GREY_CHROMA
    warm = a.mean() * np.cos(WARM_HUE) + b.mean() * np.sin(WARM_HUE)
    one_hue = np.hypot(a.mean(), b.mean())
    top = picture.max(axis=2).astype(np.float32)
    bottom = picture.min(axis=2).astype(np.float32)
    blue = (hue > 195) & (hue < 310) & (chroma > NEARLY_GREY_CHROMA)
    sky_rows = max(1, len(lightness) // 3)
    return {
        "chroma": _unit(mean_chroma / 100),
        "peak_chroma": _unit(np.percentile(chroma, 95) / 100),
        "colourfulness": _unit(colourfulness(picture) / EXTREMELY_COLOURFUL),
        "warmth": _unit(0.5 + 0.5 * warm / grey_guard),
        "hue_spread": _unit((mean_chroma - one_hue) / grey_guard),
        "vivid_share": _share(chroma > 55),
        "pastel_share": _share((lightness > 70) & (chroma > NEARLY_GREY_CHROMA) & (chroma < 40)),
        "neon_share": _share((top > 0.9 * 255) & (top - bottom > 0.8 * top)),
        "earth_share": _share(
            (hue > 40) & (hue < 100) & (chroma > 10) & (chroma < 50) & (lightness > 15) & (lightness < 70)
        ),
        "green_share": _share((hue > 100) & (hue < 165) & (chroma > 10)),
        "blue_share": _share(blue),
        "blue_above": _share((blue & (lightness > 30))[:sky_rows]),
        "skin_share": _share(_skin(picture)),
        "paper_share": _share((lightness > 85) & (chroma < 10)),
        "distinct_colours": _distinct_colours(picture),
    }


def colourfulness(picture: Pixels) -> float:
    """Hasler and Süsstrunk's M: 0 not, 33 moderately, 59 quite, 82 highly, 109 extremely colourful."""
    red, green, blue = np.moveaxis(picture.astype(np.float32), -1, 0)
    red_green = red - green
    yellow_blue = (red + green) / 2 - blue
    spread = np.hypot(red_green.std(), yellow_blue.std())
    offset = np.hypot(red_green.mean(), yellow_blue.mean())
    return float(spread + 0.3 * offset)


def _skin(picture: Pixels) -> Mask:
    red, green, blue = np.moveaxis(picture.astype(np.float32), -1, 0)
    cb = 128 - 0.168736 * red - 0.331264 * green + 0.5 * blue
    cr = 128 + 0.5 * red - 0.418688 * green - 0.081312 * blue
    return np.asarray((cb >= 77) & (cb <= 127) & (cr >= 133) & (cr <= 173))


def _distinct_colours(picture: Pixels) -> float:
    levels = (picture >> 3).astype(np.int32)
    code = (levels[..., 0] << 10) | (levels[..., 1] << 5) | levels[..., 2]
    possible = min(code.size, 1 << 15)
    if possible == 1:
        return 0.0
    occurring = np.count_nonzero(np.bincount(code.ravel(), minlength=1 << 15))
    return _unit(np.log2(occurring) / np.log2(possible))


def _structure(picture: Pixels, lightness: Plane) -> dict[str, float]:
    x_slope, y_slope, slope = _gradient(lightness)
    total = slope.sum(dtype=np.float64)
    xx, yy, xy = (x_slope * x_slope).sum(), (y_slope * y_slope).sum(), (x_slope * y_slope).sum()
    diagonal = np.minimum(np.abs(x_slope), np.abs(y_slope)) > np.tan(np.pi / 8) * np.maximum(
        np.abs(x_slope), np.abs(y_slope)
    )
    x, y = _centred_coordinates(lightness.shape)
    distance = np.hypot(x, y)
    outward = np.abs(x_slope * x + y_slope * y) / np.where(distance > 0, distance, 1)
    crossing = np.divide(outward * outward, slope, out=np.zeros_like(slope), where=slope > 0)
    return {
        "flatness": _flatness(picture),
        "edge_density": _share(slope > EDGE_L_PER_PX),
        "fine_detail": _unit(np.abs(lightness - _blurred(lightness)).mean() / 10),
        "diagonal_edges": _ratio(slope[diagonal].sum(dtype=np.float64), total, 0.5),
        "edge_coherence": _ratio(np.hypot(xx - yy, 2 * xy), xx + yy, 0.0),
        "radial_edges": 1 - _ratio(crossing.sum(dtype=np.float64), total, 0.5),
    }


def _flatness(picture: Pixels) -> float:
    signed = picture.astype(np.int16)
    to_right = np.abs(np.diff(signed, axis=1, append=signed[:, -1:])).max(axis=2)
    to_below = np.abs(np.diff(signed, axis=0, append=signed[-1:])).max(axis=2)
    return _share(np.maximum(to_right, to_below) <= FLAT_LEVELS)


def _layout(lab: NDArray[np.float32]) -> dict[str, float]:
    slope = _gradient(lab[0])[2]
    detail = _cells(slope)
    light = _cells(lab[0])
    x, y = _centred_coordinates(detail.shape)
    total = detail.sum()
    middle = (np.abs(x) <= 0.5) & (np.abs(y) <= 0.5)
    core = (np.abs(x) <= 1 / 3) & (np.abs(y) <= 1 / 3)
    ring = np.maximum(np.abs(x), np.abs(y)) > 0.75
    colour = np.stack([light, _cells(lab[1]), _cells(lab[2])])
    apart = np.linalg.norm(colour[:, core].mean(axis=1) - colour[:, ring].mean(axis=1))
    third = BLOCKS // 3
    return {
        "symmetry": max(_agreement(light, LIGHTNESS_NOISE), _agreement(detail, NEARLY_EMPTY)),
        "emptiness": _share(detail < NEARLY_EMPTY),
        "centre_detail": _ratio(detail[middle].sum(), total, 0.25),
        "centre_apart": _unit(apart / 60),
        "off_centre": _ratio(abs((detail * x).sum()), total, 0.0),
        "detail_below": _ratio(detail[y[:, 0] > 0].sum(), total, 0.5),
        "detail_clumping": _ratio(np.abs(detail - detail.mean()).sum() / 2, total, 0.0),
        "light_above": _unit(0.5 + 0.5 * (light[:third].mean() - light[-third:].mean()) / 100),
    }


def _agreement(cells: Plane, noise: float) -> float:
    """Correlate a grid with its mirror image; differences within the noise count as agreement."""
    difference = ((cells - cells[:, ::-1]) ** 2).mean()
    variance = cells.var() + noise**2
    return _unit(1 - difference / (2 * variance))


def _cells(plane: Plane) -> Plane:
    """Average a plane over a BLOCKS x BLOCKS grid; a smaller picture repeats its pixels."""
    for axis in (0, 1):
        length = plane.shape[axis]
        if length < BLOCKS:
            plane = np.repeat(plane, -(-BLOCKS // length), axis=axis)
            length = plane.shape[axis]
        starts = np.arange(BLOCKS) * length // BLOCKS
        sizes = np.diff(starts, append=length).astype(np.float32)
        plane = np.add.reduceat(plane, starts, axis=axis) / (sizes[:, None] if axis == 0 else sizes)
    return plane


def _gradient(plane: Plane) -> tuple[Plane, Plane, Plane]:
    """Give central differences along x and along y, and their length; borders repeat."""
    padded: Plane = np.pad(plane, 1, mode="edge")
    half = np.float32(0.5)
    x_slope: Plane = half * (padded[1:-1, 2:] - padded[1:-1, :-2])
    y_slope: Plane = half * (padded[2:, 1:-1] - padded[:-2, 1:-1])
    slope: Plane = np.hypot(x_slope, y_slope)
    return x_slope, y_slope, slope


def _blurred(plane: Plane) -> Plane:
    padded: Plane = np.pad(plane, 1, mode="edge")
    rows: Plane = padded[:-2] + padded[1:-1] + padded[2:]
    blurred: Plane = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / np.float32(9)
    return blurred


def _centred_coordinates(shape: tuple[int, ...]) -> tuple[Plane, Plane]:
    """Give the pixels' x as (1, width) and y as (height, 1); the rims are at -1 and 1."""
    y, x = (np.linspace(1 / n - 1, 1 - 1 / n, n, dtype=np.float32) for n in shape)
    return x[None, :], y[:, None]


def _share(mask: Mask) -> float:
    return float(np.count_nonzero(mask) / mask.size)


def _unit(value: float | np.floating) -> float:
    return float(min(max(float(value), 0.0), 1.0))


def _ratio(part: float | np.floating, whole: float | np.floating, when_nothing: float) -> float:
    return _unit(part / whole) if whole > 0 else when_nothing
