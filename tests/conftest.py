from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says nothing on a machine with two busy cores.
settings.register_profile("any-speed", deadline=None)
settings.load_profile("any-speed")


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny CLIP model; treat it as read-only."""
    # Importing transformers takes seconds that only the tests that ask for a model should pay.
    from tests.support.tiny_clip import make_tiny_clip

    return make_tiny_clip(tmp_path_factory.mktemp("models") / "tiny-clip")
