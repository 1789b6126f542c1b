"""What decoding will cost is told from headers: ordinary pictures are quick, and no trick passes for one."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from deployments.errors import UnreadablePicture
from serve_app.pictures.decoding_cost import decoding_cost_s
from serve_app.settings import ImageSettings
from tests.support.pictures import photograph, png_chunk
from tests.support.slow_pictures import REFUSED, SLOW, jpeg_of_scans, saved

ORDINARY_PX = (4000, 3000)
"""What a phone takes."""

SMALL = photograph("rocket").resize((64, 48))
JPEG = saved(SMALL, "JPEG")
PROGRESSIVE = saved(SMALL, "JPEG", progressive=True)
SCANS = PROGRESSIVE.count(b"\xff\xda")

SCAN_MARKS = b"\xff\xda" * 1000


def cost_s(data: bytes, **settings: float) -> float:
    return decoding_cost_s(data, ImageSettings.model_validate(settings))


def is_quick(data: bytes) -> bool:
    return cost_s(data) <= ImageSettings().quick_decode_s


@pytest.mark.parametrize(
    ("format_name", "options"),
    [
        ("JPEG", {"quality": 95, "icc_profile": bytes(3000), "exif": b"Exif\0\0" + bytes(60_000)}),
        ("JPEG", {"progressive": True}),
        ("MPO", {"save_all": True, "append_images": [SMALL]}),
        ("PNG", {"compress_level": 1}),
        ("WEBP", {"method": 0}),
        ("WEBP", {"method": 0, "exif": b"Exif\0\0" + bytes(60_000)}),
        ("GIF", {}),
    ],
)
def test_what_a_phone_takes_is_quick_in_every_common_format(format_name: str, options: dict[str, object]) -> None:
    assert is_quick(saved(photograph("coffee").resize(ORDINARY_PX), format_name, **options))


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_small_pictures_cost_next_to_nothing(format_name: str) -> None:
    assert cost_s(saved(SMALL, format_name)) < 0.01


@pytest.mark.parametrize("name", [name for name in SLOW if name not in REFUSED])
def test_no_trick_passes_for_a_quick_picture(name: str) -> None:
    assert not is_quick(SLOW[name]())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no picture",
        JPEG[:4],
        JPEG[:100],
        saved(SMALL, "PNG")[:20],
        saved(SMALL, "WEBP")[:20],
        saved(SMALL, "WEBP").replace(b"VP8 ", b"VP9 "),
        saved(SMALL, "GIF")[:13],
        b"GIF89a" + bytes(7) + b"!\xfe" + b"\1a" * 10_000,
        saved(SMALL, "BMP")[:20],
        JPEG.replace(b"\xff\xc0", b"\xff\xc9"),
        saved(SMALL, "TIFF"),
        saved(SMALL, "AVIF"),
    ],
    ids=repr,
)
def test_what_headers_do_not_bound_has_no_bound(data: bytes) -> None:
    assert cost_s(data) == float("inf")


@pytest.mark.parametrize(
    ("format_name", "profile"),
    [(name, bytes(range(256)) * 4000) for name in ("JPEG", "WEBP")] + [("PNG", SMALL.resize((500, 500)).tobytes())],
)
def test_a_large_colour_profile_costs_more_than_the_picture(format_name: str, profile: bytes) -> None:
    assert not is_quick(saved(SMALL, format_name, icc_profile=profile))


def test_a_bmp_tells_of_its_profile_too() -> None:
    bmp = saved(SMALL, "BMP")
    with_profile = bmp[:14] + struct.pack("<I", 124) + bmp[18:54] + bytes(76) + struct.pack("<I", 1_000_000) + bmp[54:]
    assert not is_quick(with_profile)


@pytest.mark.parametrize("name", REFUSED)
def test_a_jpeg_of_too_many_scans_is_refused_and_told_why(name: str) -> None:
    with pytest.raises(UnreadablePicture, match="more than 100 scans"):
        cost_s(SLOW[name]())


@pytest.mark.parametrize("progressive", [True, False])
def test_scans_cost_as_much_as_there_are_pixels(progressive: bool) -> None:
    small, large = (cost_s(jpeg_of_scans(90, edge_px, progressive=progressive)) for edge_px in (100, 10_000))
    assert small < 0.01
    assert large > 1


@pytest.mark.parametrize("most", [SCANS - 1, SCANS])
def test_scans_are_counted_exactly_where_it_matters(most: int) -> None:
    if most < SCANS:
        with pytest.raises(UnreadablePicture, match=f"more than {most} scans"):
            cost_s(PROGRESSIVE, max_scans=most)
    else:
        assert cost_s(PROGRESSIVE, max_scans=most) < 0.01


def _between_scans(jpeg: bytes, segment: bytes) -> bytes:
    at = jpeg.rindex(b"\xff\xda")
    return jpeg[:at] + segment + jpeg[at:]


@pytest.mark.parametrize(
    "hide",
    [
        lambda jpeg: jpeg + SCAN_MARKS,
        lambda jpeg: jpeg[:2] + b"\xff\xfe" + struct.pack(">H", len(SCAN_MARKS) + 2) + SCAN_MARKS + jpeg[2:],
        lambda jpeg: _between_scans(jpeg, b"\xff\xfe" + struct.pack(">H", len(SCAN_MARKS) + 2) + SCAN_MARKS),
        lambda jpeg: (
            jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(SCAN_MARKS) + 8) + b"Exif\0\0" + SCAN_MARKS + jpeg[2:]
        ),
    ],
    ids=["behind the end", "in a comment before", "in a comment between", "in Exif"],
)
def test_what_only_looks_like_scans_is_no_reason_to_refuse(hide: Callable[[bytes], bytes]) -> None:
    assert is_quick(hide(PROGRESSIVE))


def test_the_scans_of_a_picture_are_read_in_any_number_of_pieces() -> None:
    comments = b"\xff\xfe\0\2" * 6000
    assert cost_s(_between_scans(PROGRESSIVE, comments + b"\xff\xfe" + struct.pack(">H", 2002) + SCAN_MARKS)) == float(
        "inf"
    )


def test_a_png_in_the_pieces_that_libpng_writes_is_quick() -> None:
    png = saved(SMALL, "PNG")
    assert is_quick(png[:33] + png_chunk(b"tEXt", bytes(8192)) * 2400 + png[33:])
