"""Reads a picture: one score per label, from CLIP or, until its weights are there, from a stand-in."""

import sys

# OpenVINO tells Google Analytics of each import, and cannot be imported by a user without a home; without this package
# it does neither.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
