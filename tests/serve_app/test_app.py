"""What is asked of Ray where the config does not say."""

from __future__ import annotations

import pytest

from serve_app.app import MOST_INGRESSES, gpu_share, ingress_replicas


def test_a_gpu_share_is_asked_for_where_there_is_a_gpu_to_share() -> None:
    assert gpu_share("auto", cluster_gpus=1) == gpu_share("cuda", cluster_gpus=2) == 0.5
    assert gpu_share("auto", cluster_gpus=0) == gpu_share("cpu", cluster_gpus=1) == 0


@pytest.mark.parametrize(
    ("cpus", "replicas"), [(0, 1), (0.5, 1), (1, 1), (2, 2), (MOST_INGRESSES, MOST_INGRESSES), (64, MOST_INGRESSES)]
)
def test_one_ingress_a_core_takes_requests_within_bounds(cpus: float, replicas: int) -> None:
    assert ingress_replicas(cpus) == replicas
