"""Measures against values that are known, and against what must hold for every picture."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from deployments.clip.pixels.measures import MEASURE_NAMES, colourfulness, measure, to_lab

EDGE_PX = 224
LIGHT_AND_COLOUR = MEASURE_NAMES[: MEASURE_NAMES.index("flatness")]

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
BLACK, GREY, WHITE = (0, 0, 0), (128, 128, 128), (255, 255, 255)


def flat(*colours: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Make upright bands of equal width."""
    bands = [np.full((EDGE_PX, EDGE_PX // len(colours), 3), colour, np.uint8) for colour in colours]
    return np.concatenate(bands, axis=1)


def square(x: float, y: float) -> NDArray[np.uint8]:
    """Put a white square of 40 px on black, its centre at shares of the edge."""
    picture = flat(BLACK).copy()
    column, row = int(x * EDGE_PX), int(y * EDGE_PX)
    picture[row - 20 : row + 20, column - 20 : column + 20] = 255
    return picture


def waves(angle_deg: float) -> NDArray[np.uint8]:
    """Draw soft grey stripes whose brightness changes along `angle_deg`."""
    rows, columns = np.mgrid[0:EDGE_PX, 0:EDGE_PX]
    angle = np.deg2rad(angle_deg)
    level = 128 + 100 * np.sin((columns * np.cos(angle) + rows * np.sin(angle)) / 3)
    return np.repeat(level[..., None], 3, axis=2).astype(np.uint8)


@st.composite
def pictures(draw: st.DrawFn) -> NDArray[np.uint8]:
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    low = draw(st.integers(0, 255))
    high = draw(st.integers(low, 255))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    return random.integers(low, high + 1, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("colour", "lab"),
    [
        (WHITE, (100, 0, 0)),
        (BLACK, (0, 0, 0)),
        (GREY, (53.59, 0, 0)),
        (RED, (53.24, 80.09, 67.20)),
        (GREEN, (87.73, -86.18, 83.18)),
        (BLUE, (32.30, 79.19, -107.86)),
    ],
)
def test_lab_of_known_colours(colour: tuple[int, int, int], lab: tuple[float, float, float]) -> None:
    assert to_lab(np.array([[colour]], np.uint8))[:, 0, 0] == pytest.approx(lab, abs=0.05)


def test_colourfulness_follows_the_paper() -> None:
    # Half red, half green: red-green has deviation 255 and mean 0, yellow-blue deviation 0 and mean 127.5.
    assert colourfulness(flat(RED, GREEN)) == pytest.approx(255 + 0.3 * 127.5, abs=0.1)


LAMP, LAKE, LIT = square(0.5, 0.5), np.rot90(flat(GREY, (60, 120, 200)), -1), np.rot90(flat(WHITE, BLACK), -1)
NOISE = np.random.default_rng(0).integers(0, 256, (EDGE_PX, EDGE_PX, 3), np.uint8)
COLOURLESS = dict.fromkeys(("chroma", "hue_spread", "colourfulness", "vivid_share", "skin_share", "blue_share"), 0)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        *((flat(grey), {"warmth": 0.5, **COLOURLESS}) for grey in (BLACK, GREY, WHITE)),
        (flat(BLACK, WHITE), {"lightness": 0.5, "contrast": 1, "dark_share": 0.5, "bright_share": 0.5}),
        (LAMP, {"highlights": 1, "centre_detail": 1, "off_centre": 0, "detail_below": 0.5}),
        (flat(WHITE), {"highlights": 0}),
        (LIT, {"light_above": 1}),
        (LIT[::-1], {"light_above": 0}),
        (LAKE, {"blue_above": 0}),
        (LAKE[::-1], {"blue_above": 1}),
        (flat(RED), {"distinct_colours": 0, "flatness": 1, "fine_detail": 0, "emptiness": 1}),
        (square(0.25, 0.5), {"off_centre": 0.5}),
        (square(0.5, 0.75), {"off_centre": 0, "detail_below": 1}),
    ],
)
def test_known_pictures(picture: NDArray[np.uint8], expected: dict[str, float]) -> None:
    found = asdict(measure(picture))
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=0.03)


def test_warm_and_cool() -> None:
    assert measure(flat((255, 140, 0))).warmth > 0.9
    assert measure(flat((110, 170, 240))).warmth < 0.15


def test_hue_spread_is_of_hues_not_of_shades() -> None:
    assert measure(flat((90, 0, 0), RED, (255, 120, 120))).hue_spread < 0.1
    assert measure(flat((200, 80, 60), (0, 140, 160))).hue_spread > 0.5


@pytest.mark.parametrize(
    ("colour", "share"),
    [
        ((60, 140, 50), "green_share"),
        ((120, 180, 240), "blue_share"),
        ((120, 180, 240), "blue_above"),
        ((224, 172, 140), "skin_share"),
        ((110, 72, 52), "skin_share"),
        ((120, 85, 50), "earth_share"),
        ((255, 214, 224), "pastel_share"),
        ((255, 16, 240), "neon_share"),
        ((250, 250, 246), "paper_share"),
        ((220, 20, 30), "vivid_share"),
    ],
)
def test_shares_of_named_colours(colour: tuple[int, int, int], share: str) -> None:
    assert [asdict(measure(flat(colour)))[share] for colour in (colour, BLACK)] == pytest.approx([1, 0], abs=1e-5)


def test_noise_and_clumps() -> None:
    noise = measure(NOISE)
    assert min(noise.distinct_colours, noise.fine_detail) > 0.9
    assert noise.edge_density > 0.5
    assert noise.flatness < 0.01
    assert measure(LAMP).detail_clumping > 0.8 > 0.2 > measure(waves(30)).detail_clumping
    assert measure(LAMP).centre_apart > 0.3 > measure(flat(WHITE, BLACK)).centre_apart


@pytest.mark.parametrize(("angle_deg", "diagonal"), [(0, 0), (90, 0), (45, 1), (135, 1)])
def test_edge_direction(angle_deg: float, diagonal: float) -> None:
    found = measure(waves(angle_deg))
    assert found.diagonal_edges == pytest.approx(diagonal, abs=0.1)
    assert found.edge_coherence > 0.9


def test_rings_and_rays_about_the_centre() -> None:
    rows, columns = np.mgrid[0:EDGE_PX, 0:EDGE_PX] - (EDGE_PX - 1) / 2
    rings = np.sin(np.hypot(rows, columns) / 4)
    rays = np.sin(24 * np.arctan2(rows, columns))
    for pattern, expected in ((rings, 0), (rays, 1)):
        picture = np.repeat((128 + 100 * pattern)[..., None], 3, axis=2).astype(np.uint8)
        assert measure(picture).radial_edges == pytest.approx(expected, abs=0.1)


def test_symmetry_is_left_for_right() -> None:
    noise = np.random.default_rng(1).integers(0, 2, (14, 7, 1), np.uint8) * 255
    half = np.repeat(noise.repeat(16, axis=0).repeat(16, axis=1), 3, axis=2)
    assert measure(np.concatenate([half, half[:, ::-1]], axis=1)).symmetry > 0.98
    assert measure(np.concatenate([half, np.zeros_like(half)], axis=1)).symmetry < 0.3


@given(pictures())
def test_every_measure_lies_between_0_and_1_and_a_mirror_changes_no_light_and_no_colour(
    picture: NDArray[np.uint8],
) -> None:
    there, back = asdict(measure(picture)), asdict(measure(picture[:, ::-1]))
    assert not {name: value for name, value in there.items() if not 0 <= value <= 1}
    assert [back[name] for name in LIGHT_AND_COLOUR] == pytest.approx([there[n] for n in LIGHT_AND_COLOUR], abs=1e-4)


@given(pictures(), st.integers(1, 200))
def test_more_light_raises_lightness(picture: NDArray[np.uint8], raise_levels: int) -> None:
    lit = np.minimum(picture.astype(int) + raise_levels, 255).astype(np.uint8)
    before, after = measure(picture), measure(lit)
    assert after.lightness >= before.lightness - 1e-6
    assert after.dark_share <= before.dark_share + 1e-6
    assert after.bright_share >= before.bright_share - 1e-6
