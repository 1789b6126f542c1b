"""How far our scores are from the original algorithm's, per photograph: `python -m benchmarks.score_shift FOLDER`.

FOLDER holds a model of the CLIP family; a full-size one with random weights comes from
`python -m tests.support.tiny_clip FOLDER --full-size`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from deployments.clip.backends.base import Engine
from deployments.clip.backends.openvino import OpenVinoEngine
from deployments.clip.backends.torch import TorchEngine
from deployments.clip.checkpoint import VisionTower, converted
from deployments.clip.labels import load_labels
from deployments.clip.model import encoder_in_torch
from deployments.clip.settings import DEFAULT_LABELS_FILE
from tests.support.pictures import photograph
from tests.support.reference import (
    PHOTOGRAPHS,
    OriginalAlgorithm,
    camera_jpeg,
    largest_difference,
    our_scores,
    without_profile,
)

CPU = torch.device("cpu")

ENGINES: dict[str, Callable[[VisionTower], Engine]] = {
    "torch float32": lambda tower: TorchEngine(tower, CPU, torch.float32, cores=1),
    "torch bfloat16": lambda tower: TorchEngine(tower, CPU, torch.bfloat16, cores=1),
    "openvino float32": lambda tower: OpenVinoEngine(converted(tower), "float32", cores=1),
    "openvino bfloat16": lambda tower: OpenVinoEngine(converted(tower), "bfloat16", cores=1),
}
if torch.cuda.is_available():
    ENGINES["GPU float16"] = lambda tower: TorchEngine(tower, torch.device("cuda"), torch.float16, cores=1)


def main() -> None:
    """Print the largest difference of any of the 69 scores: per photograph, and of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    labels = load_labels(DEFAULT_LABELS_FILE)
    original = OriginalAlgorithm(folder, labels)
    models = {name: encoder_in_torch(folder, name=folder.name, make_engine=engine) for name, engine in ENGINES.items()}
    reference = models["torch float32"]
    rows = []
    for name in PHOTOGRAPHS:
        upload, expected = without_profile(photograph(name)), original.scores(photograph(name))
        camera = camera_jpeg(photograph(name))
        exact, fast = (our_scores(reference, camera, labels, exact=exact) for exact in (True, False))
        rows.append(
            [
                *(
                    largest_difference(expected, our_scores(model, upload, labels, exact=True))
                    for model in models.values()
                ),
                largest_difference(exact, fast),
            ]
        )
    columns = [*ENGINES, "fast decoding"]
    print(f"{'photograph':12}" + "".join(f"{column:>19}" for column in columns))
    for name, row in zip((*PHOTOGRAPHS, "largest"), (*rows, [*map(max, zip(*rows, strict=True))]), strict=True):
        print(f"{name:12}" + "".join(f"{difference:19.6f}" for difference in row))


if __name__ == "__main__":
    main()
