"""The rules over hours and days, on series made up for promtool: what fires, and that nothing else does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.prometheus import promtool

MONITORING = Path(__file__).parents[1] / "monitoring"

UP = 'up{job="a",instance="a"}'
SEEN = 'ray_serve_num_http_requests_total{application="main",instance="a",method="POST",status_code="200"}'
SEEN_503 = 'ray_serve_num_http_error_requests_total{application="main",instance="a",method="POST",error_code="503"}'

HEALTHY = {
    UP: "1x500",
    'ray_serve_deployment_status{application="main",deployment="OllamaDeployment"}': "6x500",
    'ray_serve_deployment_replica_healthy{application="main",deployment="OllamaDeployment",replica="a"}': "1x500",
    'ray_serve_application_status{application="main"}': "6x500",
}
"""Of one application, every minute for eight hours; a case lays its own over it."""


def requests(outcome: str, status: int, application: str = "main") -> str:
    tags = f'application="{application}",outcome="{outcome}",status="{status}",route="analyze",replica="a"'
    return f"ray_image_analyzer_requests_total{{{tags}}}"


def seconds(metric: str, tags: str, upper: str) -> dict[str, str]:
    """Give a histogram of which each minute ten more are above one bound and none above the next."""
    low, high = upper.split()
    name, tags = f"ray_image_analyzer_{metric}_seconds", f'application="main"{tags}'
    bounds = {low: "0x100", high: "0+10x100", "+Inf": "0+10x100"}
    buckets = {f'{name}_bucket{{{tags},le="{bound}"}}': values for bound, values in bounds.items()}
    return {**buckets, f"{name}_count{{{tags}}}": "0+10x100"}


STEADY = {requests("answered", 200): "0+100x500", requests("failed", 503): "0x500", SEEN: "0+100x500"}
"""A hundred pictures a minute."""

CASES: dict[str, tuple[dict[str, str], str, set[tuple[str, str]]]] = {
    "all is well": (STEADY, "7h", set()),
    "nobody calls": ({requests("answered", 200): "0x500", requests("failed", 503): "0x500"}, "7h", set()),
    "all is gone": (dict.fromkeys(HEALTHY, "1x10"), "20m", {("ImageAnalyzerGone", "")}),
    "every picture fails": (
        {**STEADY, requests("answered", 200): "0+100x60 6000x30", requests("failed", 503): "0x60 100+100x30"},
        "66m",
        {("ImageAnalyzerFailing", "main")},
    ),
    "and has stopped to": (
        {**STEADY, requests("failed", 503): "0x60 100+100x10 1100x100"},
        "106m",
        {("ImageAnalyzerFailingSlowly", "main")},
    ),
    "the other application fails": (
        {**STEADY, requests("answered", 200, "other"): "0x90", requests("failed", 503, "other"): "0x60 9+9x30"},
        "66m",
        {("ImageAnalyzerFailing", "other")},
    ),
    "four failures at night": (
        {requests("answered", 200): "0x90", requests("failed", 503): "0x60 1+1x3 4x30"},
        "66m",
        set(),
    ),
    "4 in 100 for an hour": (
        {**STEADY, requests("failed", 504): "0+4x500"},
        "65m",
        {("ImageAnalyzerFailing", "main"), ("ImageAnalyzerFailingSlowly", "main")},
    ),
    "1 in 100 for hours": (
        {**STEADY, requests("failed", 504): "0+1x500"},
        "7h",
        {("ImageAnalyzerFailingSlowly", "main")},
    ),
    "1 in 1000 for hours": ({**STEADY, requests("failed", 504): "0x5 0+1x2 2x5 3x1000"}, "3h", set()),
    "Serve's first failures, in one piece": (
        {requests("answered", 200): "0+1x90", SEEN: "0+1x90", SEEN_503: "_x60 40x30"},
        "63m",
        {("ImageAnalyzerFailing", "main")},
    ),
    "old failures, and a Prometheus that has just begun": (
        {
            **HEALTHY,
            UP: "_x60 1x60",
            requests("answered", 200): "_x60 7+1x60",
            SEEN: "_x60 7+1x60",
            SEEN_503: "_x60 40x60",
        },
        "63m",
        set(),
    ),
    "another application's failures at Serve": (
        {**STEADY, SEEN_503.replace("main", "strange"): "0+100x90", SEEN.replace("main", "strange"): "0+100x90"},
        "1h",
        set(),
    ),
    "the first 500 ever": (
        {**STEADY, requests("failed", 500): "0x60 1x100"},
        "70m",
        {("ImageAnalyzerFault", "main")},
    ),
    "long ago": ({**STEADY, requests("failed", 500): "0x60 1x1000"}, "3h", set()),
    "one in ten is refused": (
        {**STEADY, requests("refused", 429): "0+11x100"},
        "20m",
        {("ImageAnalyzerRefusing", "main")},
    ),
    "replicas die, none is pending": (
        {'ray_serve_deployment_status{application="main",deployment="ClipDeployment"}': "2x60"},
        "5m",
        {("ImageAnalyzerNoReplica", "main")},
    ),
    "one of two replicas dies": (
        {
            'ray_serve_deployment_replica_healthy{application="main",deployment="ClipDeployment",replica="a"}': "0x60",
            'ray_serve_deployment_replica_healthy{application="main",deployment="ClipDeployment",replica="b"}': "1x60",
        },
        "5m",
        set(),
    ),
    "a part is required and missing": (
        {'ray_image_analyzer_part_state{application="main",part="writer",replica="a",state="unavailable"}': "1x60"},
        "5m",
        {("ImageAnalyzerUnavailable", "main")},
    ),
    "a deployment is refused": (
        {'ray_serve_application_status{application="main"}': "1x60"},
        "10m",
        {("ImageAnalyzerUnhealthy", "main")},
    ),
    "labels are refused": (
        {'ray_image_analyzer_change_refused{application="main",replica="a"}': "0x5 1x60"},
        "10m",
        {("ImageAnalyzerChangeRefused", "main")},
    ),
    "a stand-in answers": (
        {'ray_image_analyzer_part_state{application="main",part="analyzer",replica="a",state="fallback"}': "1x60"},
        "11m",
        {("ImageAnalyzerOnFallback", "main")},
    ),
    "one of two servers is down": (
        {
            'ray_image_analyzer_ollama_up{application="main",host="a",replica="a"}': "0x60",
            'ray_image_analyzer_ollama_up{application="main",host="b",replica="a"}': "1x60",
        },
        "10m",
        {("OllamaServerDown", "main")},
    ),
    "prompts wait": (seconds("ollama_wait", "", "30 60"), "30m", {("PromptsWait", "main")}),
    "first tokens are late": (seconds("ollama_first_token", ',host="a"', "20 30"), "30m", {("FirstTokenSlow", "main")}),
    "pictures are read slowly": (seconds("stage", ',stage="analysis"', "5 10"), "30m", {("AnalysisSlow", "main")}),
    "pictures are read as always": (seconds("stage", ',stage="analysis"', "1 2.5"), "30m", set()),
}


@pytest.mark.parametrize("case", CASES)
def test_what_fires(case: str, tmp_path: Path) -> None:
    series, when, alerts = CASES[case]
    told = 'count by (alertname, application) (ALERTS{alertstate="firing"})'
    expected = [
        {"labels": f'{{alertname="{alert}"' + (f', application="{name}"}}' if name else "}"), "value": 1}
        for alert, name in alerts
    ]
    test: dict[str, Any] = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in {**HEALTHY, **series}.items()],
        "promql_expr_test": [{"expr": told, "eval_time": when, "exp_samples": expected}],
    }
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(MONITORING / "alerts.yaml")], "tests": [test]}))
    promtool("test", "rules", file)


def test_prometheus_takes_its_configuration() -> None:
    promtool("check", "config", MONITORING / "prometheus.yml")
