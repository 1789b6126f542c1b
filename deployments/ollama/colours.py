"""Plain names for measured colours: models write better from "dark brown" than from `#4a3220`."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable

from deployments.types import Swatch

NEUTRAL_CHROMA = 0.09
"""Largest minus smallest channel, 0 to 1, below which an eye sees grey."""

BLACK_BELOW, DARK_BELOW, LIGHT_ABOVE, WHITE_ABOVE = 0.08, 0.3, 0.75, 0.92
"""Bounds on HSL lightness, 0 to 1."""

VIVID_CHROMA, VIVID_LIGHTNESS = 0.4, 0.36
"""Orange that is below either is what people call brown or, where light, beige."""

HUES = (
    (15, "red"),
    (45, "orange"),
    (68, "yellow"),
    (165, "green"),
    (195, "teal"),
    (255, "blue"),
    (290, "purple"),
    (345, "pink"),
    (360, "red"),
)
"""Upper bound of each hue in degrees, and its name."""


def colour_name(hex_code: str) -> str:
    """Name a colour given as `#rrggbb`, in English as image models are trained on it.

    Raises:
        ValueError: it is no such code.
    """
    red, green, blue = (channel / 255 for channel in bytes.fromhex(hex_code.removeprefix("#")))
    hue, lightness, _ = colorsys.rgb_to_hls(red, green, blue)
    chroma = max(red, green, blue) - min(red, green, blue)
    if lightness < BLACK_BELOW:
        return "black"
    shade = "dark " if lightness < DARK_BELOW else "light " if lightness > LIGHT_ABOVE else ""
    if chroma < NEUTRAL_CHROMA:
        return "white" if lightness > WHITE_ABOVE else f"{shade}gray"
    name = next(name for bound, name in HUES if hue * 360 <= bound)
    if name == "orange" and (chroma < VIVID_CHROMA or lightness < VIVID_LIGHTNESS):
        return "beige" if lightness > (DARK_BELOW + LIGHT_ABOVE) / 2 else f"{shade}brown"
    return f"{shade}{name}"


def named_shares(palette: Iterable[Swatch]) -> dict[str, float]:
    """Add up the shares of swatches that go by one name; largest first, at equal shares in palette order."""
    shares: dict[str, float] = {}
    for swatch in palette:
        name = colour_name(swatch.hex)
        shares[name] = shares.get(name, 0.0) + swatch.share
    return dict(sorted(shares.items(), key=lambda item: -item[1]))
