"""Colours as people see them: what a picture's profile says its numbers mean, brought to sRGB."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}
"""Colour space of a profile, as ICC names it → the mode of a picture that it can be of."""

_MOST_PROFILE_BYTES = 4 << 20
"""Those of presses take up to 3 MB."""

_COSTLY = b"mpet"
"""Elements that a profile may hold any number of, each worked through for every pixel; no device writes them."""

_KEPT_TRANSFORMS = 16
"""Profiles whose transform is kept, as phones and editors send the same few: making one takes 2 ms of CPU."""

_PROBE_STEPS = 9

_SAME_LEVELS = 2
"""Of 255: a profile that changes no colour by more is sRGB by another name, and costs nothing."""

_UNSURE_GAMMA = 0.02
"""Writers round what sRGB is nearest to, 1/2.2, in many ways."""

_SRGB_CHROMATICITY = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
"""White, red, green, blue: x and y of each, in PNG's order."""

_SAME_MATRIX = 0.02

_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
"""From XYZ to the eye's cones, where whites are brought to one another."""

_SRGB_PROFILE = ImageCms.createProfile("sRGB")

_BMP_HEADER = struct.Struct("<14xI52x4s52xII")
"""Its size, what its colours are by, where a profile begins after it, and how many bytes it has."""
_BMP_HEADER_WITH_PROFILE_BYTES, _BMP_PROFILE_EMBEDDED = 124, b"DEBM"
_BMP_FILE_HEADER_BYTES = 14


def profile_in_bmp(data: bytes) -> bytes | None:
    """Give the ICC profile of a BMP's fifth header, which Pillow leaves out."""
    if len(data) < _BMP_HEADER.size:
        return None
    header_bytes, colours_by, begin, size = _BMP_HEADER.unpack_from(data)
    if header_bytes != _BMP_HEADER_WITH_PROFILE_BYTES or colours_by != _BMP_PROFILE_EMBEDDED:
        return None
    return data[_BMP_FILE_HEADER_BYTES + begin :][:size]


def to_srgb(square: Image.Image, info: Mapping[Any, Any]) -> Image.Image:
    """Bring a small opaque picture to sRGB, of mode RGB.

    By its ICC profile, or a PNG's gAMA and cHRM where it has neither that nor an sRGB chunk. Nothing is done for a
    profile that is sRGB, broken, or of another colour space than the picture.

    Args:
        square: of 8 bits a channel: L, RGB, CMYK, LAB, YCbCr.
        info: the metadata of the picture it was made of, as Pillow names it.
    """
    profile = info.get("icc_profile")
    if profile and len(profile) <= _MOST_PROFILE_BYTES:
        mode = "RGB" if square.mode == "YCbCr" else square.mode
        for candidate in (mode, "RGB") if mode == "L" else (mode,):
            if transform := _transform(profile, candidate):
                return transform.apply(square.convert(candidate))
    elif "srgb" not in info and ("gamma" in info or "chromaticity" in info):
        return _by_gamma(square, info.get("gamma"), info.get("chromaticity"))
    return square.convert("RGB")


@lru_cache(maxsize=_KEPT_TRANSFORMS)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Make what brings pixels of this mode to sRGB; none where the profile is no use, or not needed."""
    if _COSTLY in profile:
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if _MODES.get(source.profile.xcolor_space.strip()) != mode:
            return None
        # Without a table made in advance, which for four channels is coarse: 24 levels off at worst.
        flags = ImageCms.Flags.NOOPTIMIZE if mode == "CMYK" else ImageCms.Flags.NONE
        transform = ImageCms.buildTransform(source, _SRGB_PROFILE, mode, "RGB", ImageCms.Intent.PERCEPTUAL, flags)
        if mode in ("RGB", "L"):
            steps = np.linspace(0, 255, _PROBE_STEPS).astype(np.uint8)
            probe = Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)).convert(mode)
            changed = np.asarray(transform.apply(probe), np.int16) - np.asarray(probe.convert("RGB"))
            if np.abs(changed).max() <= _SAME_LEVELS:
                return None
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):  # What a broken profile makes of Pillow and lcms.
        return None
    return transform


def _by_gamma(square: Image.Image, gamma: float | None, chromaticity: tuple[float, ...] | None) -> Image.Image:
    rgb = square.convert("RGB")
    matrix = _matrix(chromaticity) if chromaticity and square.mode != "L" else None
    if not gamma or abs(gamma - 1 / 2.2) < _UNSURE_GAMMA:
        if matrix is None:
            return rgb
        decoded = _light(np.arange(256) / 255)
    else:
        decoded = (np.arange(256) / 255) ** (1 / gamma)
    if matrix is None:
        return rgb.point(_levels(decoded).tolist() * 3)
    return Image.fromarray(_levels(np.einsum("yxc,dc->yxd", decoded.astype(np.float32)[np.asarray(rgb)], matrix)))


def _light(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the light that levels of sRGB, from 0 to 1, stand for."""
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def _levels(light: NDArray[Any]) -> NDArray[np.uint8]:
    """Give sRGB's levels, from 0 to 255, of an amount of light."""
    light = light.clip(0, 1)
    levels = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    eight_bits: NDArray[np.uint8] = np.rint(levels * 255).astype(np.uint8)
    return eight_bits


@lru_cache(maxsize=_KEPT_TRANSFORMS)
def _matrix(chromaticity: tuple[float, ...]) -> NDArray[np.float32] | None:
    """Give the matrix from light of these primaries to light of sRGB's; none if they are the same, or nonsense."""
    if min(chromaticity[1::2]) <= 0:
        return None
    with np.errstate(all="ignore"):
        try:
            white, srgb_white = _bradford_white(chromaticity), _bradford_white(_SRGB_CHROMATICITY)
            adapted = np.linalg.inv(_BRADFORD) @ np.diag(srgb_white / white) @ _BRADFORD
            matrix = np.linalg.inv(_to_xyz(_SRGB_CHROMATICITY)) @ adapted @ _to_xyz(chromaticity)
        except np.linalg.LinAlgError:
            return None
    if not np.isfinite(matrix).all() or np.abs(matrix - np.eye(3)).max() < _SAME_MATRIX:
        return None
    return np.asarray(matrix, np.float32)


def _xyz(x: float, y: float) -> NDArray[np.float64]:
    return np.array([x / y, 1, (1 - x - y) / y])


def _bradford_white(chromaticity: tuple[float, ...]) -> NDArray[np.float64]:
    return _BRADFORD @ _xyz(*chromaticity[:2])


def _to_xyz(chromaticity: tuple[float, ...]) -> NDArray[np.float64]:
    primaries = np.stack([_xyz(*chromaticity[i : i + 2]) for i in (2, 4, 6)], axis=1)
    return primaries * np.linalg.solve(primaries, _xyz(*chromaticity[:2]))
