"""The CLIP deployment: `ImageClassifier` behind a Ray Serve handle."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import ray
from ray.serve import metrics

from deployments.clip.classifier import ClipModel, ImageClassifier, VisionModel
from deployments.clip.labels import LabelSet
from deployments.clip.settings import ClipSettings
from deployments.clip.vocabulary.phrases import Vocabulary
from deployments.clip.weights import ModelLoader
from deployments.errors import AnalyzerError
from deployments.telemetry import Recorder, join_serve_log
from deployments.types import Classification, ComponentStatus, ModelVersion, Reading


class ClipDeployment:
    """Reads pictures for every ingress replica; needs a GPU share where there is a GPU.

    Args:
        settings: the `clip` section of the config's args.
        labels: used until `user_config` brings another set.
        vocabulary: what tags are named from; `user_config` may change it.
        required: be there with CLIP or not at all, rather than let another analyser stand in.

    Raises:
        ClipUnavailable: CLIP is required and cannot be had: the replica does not start, and of what Serve was rolling
            out the old replicas go on.
    """

    @staticmethod
    def load_model(folder: Path, *, settings: ClipSettings, gpu_assigned: bool, cores: int) -> ClipModel:
        """Load the vision model of a folder: `load_encoder`'s; a subclass may bring another."""
        # Not at the top: torch and transformers take seconds to import, which the process that composes the application
        # would spend before the replica spends them again.
        from deployments.clip.model import load_encoder

        return load_encoder(folder, settings=settings, gpu_assigned=gpu_assigned, cores=cores)

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, settings: ClipSettings, labels: LabelSet, vocabulary: Vocabulary, required: bool
    ) -> None:
        join_serve_log()
        self._classifier = ImageClassifier(
            settings,
            labels,
            vocabulary,
            clip=ModelLoader(
                settings,
                functools.partial(
                    self.load_model, settings=settings, gpu_assigned=_assigned("GPU") > 0, cores=_cores()
                ),
                patience_s=settings.start_patience_s if required else None,
            ),
            fallback=None if required else functools.partial(_stand_in, _cores()),
            record=Recorder(metrics),
        )
        await self._classifier.start()

    async def classify(self, readings: list[Reading]) -> list[Classification | AnalyzerError]:
        """Analyse pictures, batched with whatever others wait; an error belongs to its picture alone."""
        return await self._classifier.classify(readings)

    async def model_version(self) -> ModelVersion:
        """Tell which vision model and label set answer now."""
        return self._classifier.model_version

    async def status(self) -> ComponentStatus:
        """Tell which analyser answers now and, if it is not CLIP, why."""
        return await self._classifier.status()

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take what `user_config` says; Serve calls this at the start and at every change of it."""
        await self._classifier.reconfigure(user_config)

    async def check_health(self) -> None:
        """Raise if the model no longer answers; Serve then replaces the replica."""
        await self._classifier.check()

    async def __del__(self) -> None:
        await self._classifier.close()


def _stand_in(cores: int) -> VisionModel:
    """Make what answers while CLIP cannot."""
    # Not at the top, as in `load_model`: OpenVINO, and only where no CLIP is there.
    from deployments.clip.objects.analyser import load_stand_in

    return load_stand_in(cores)


def _assigned(resource: str) -> float:
    """Tell how much of a resource Ray gave this replica."""
    assigned: dict[str, float] = ray.get_runtime_context().get_assigned_resources()  # type: ignore[no-untyped-call]
    return assigned.get(resource, 0)


def _cores() -> int:
    """Give the cores that Ray reserved for this replica; where it reserved none, all that it counts on this machine."""
    reserved = _assigned("CPU")
    if reserved:
        return max(1, int(reserved))
    here = ray.get_runtime_context().get_node_id()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return max([1, *(int(node["Resources"].get("CPU", 0)) for node in nodes if node["NodeID"] == here)])
