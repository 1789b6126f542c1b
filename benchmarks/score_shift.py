"""How far our scores are from the original algorithm's, per photograph: `python -m benchmarks.score_shift FOLDER`.

FOLDER holds a model of the CLIP family; a full-size one with random weights comes from
`python -m tests.support.tiny_clip FOLDER --full-size`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from deployments.clip.encoder import ClipEncoder
from deployments.clip.labels import load_labels
from deployments.clip.settings import DEFAULT_LABELS_FILE
from tests.support.pictures import photograph, photograph_path
from tests.support.reference import PHOTOGRAPHS, OriginalAlgorithm, camera_jpeg, largest_difference, our_scores


def main() -> None:
    """Print the largest difference of any of the 69 scores: per photograph, and of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    labels = load_labels(DEFAULT_LABELS_FILE)
    original = OriginalAlgorithm(folder, labels)
    full, half = (
        ClipEncoder.load(folder, name=folder.name, device=torch.device("cpu"), dtype=dtype)
        for dtype in (torch.float32, torch.bfloat16)
    )
    rows = []
    for name in PHOTOGRAPHS:
        upload, expected = photograph_path(name).read_bytes(), original.scores(photograph(name))
        camera = camera_jpeg(photograph(name))
        rows.append(
            (
                largest_difference(expected, our_scores(full, upload, labels, draft=False)),
                largest_difference(expected, our_scores(half, upload, labels, draft=False)),
                largest_difference(
                    our_scores(full, camera, labels, draft=False), our_scores(full, camera, labels, draft=True)
                ),
            )
        )
    print(f"{'photograph':12}{'float32':>12}{'bfloat16':>12}{'draft':>12}")
    for name, row in zip((*PHOTOGRAPHS, "largest"), (*rows, tuple(map(max, zip(*rows, strict=True)))), strict=True):
        print(f"{name:12}" + "".join(f"{difference:12.6f}" for difference in row))


if __name__ == "__main__":
    main()
