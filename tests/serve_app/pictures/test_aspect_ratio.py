from __future__ import annotations

import pytest

from serve_app.pictures.aspect_ratio import usual_ratio


@pytest.mark.parametrize(
    ("width_px", "height_px", "ratio"),
    [
        (100, 100, "1:1"),
        (1280, 1024, "5:4"),
        (4032, 3024, "4:3"),
        (3024, 4032, "3:4"),
        (6000, 4000, "3:2"),
        (1920, 1080, "16:9"),
        (1080, 2340, "9:21"),
        (3440, 1440, "21:9"),
        (1000, 930, "1:1"),
        (1, 10_000, "9:21"),
        (10_000, 1, "21:9"),
    ],
)
def test_the_nearest_of_the_usual_ratios_is_told(width_px: int, height_px: int, ratio: str) -> None:
    assert usual_ratio(width_px, height_px) == ratio
