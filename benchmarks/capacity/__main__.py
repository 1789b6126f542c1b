"""Print the tables of docs/scaling.md: `python -m benchmarks.capacity`; with `--write`, put them there.

From measured.json, which `python -m benchmarks.capacity.measure` writes, and from figures that this machine cannot
give, which are options.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_type_hints

from benchmarks.capacity.costs import Costs
from benchmarks.capacity.fit import FEW, MANY, WARM_UP_S, WINDOW_S, fitted, read
from benchmarks.capacity.layouts import Gpu, on_cluster, one_machine
from benchmarks.capacity.measure import MEASURED, PROMPT_TOKENS, SERVER_PLACES, TOKENS_PER_S
from benchmarks.capacity.plan import Hour, Plan, answer_ms, full_per_s, largest_cell_per_s, planned
from benchmarks.capacity.replicas import Prompts
from benchmarks.capacity.site import Answers
from benchmarks.figures import percentile
from benchmarks.report import filled, table
from benchmarks.service import ROOT
from deployments.ollama.settings import OllamaSettings
from serve_app.settings import LimitSettings

PAGE = ROOT / "docs" / "scaling.md"
LOADS_PER_S = (10, 1_000, 100_000)
TOKENS = OllamaSettings().num_predict_standard
"""Of a prompt, at most, in standard mode."""
MAX_WAITING = 64
"""ollama.max_waiting in configs/cluster.yaml."""
PROMPT_WARM_UP_S, PROMPT_WINDOW_S = 6.0, 60.0
CELL_WARM_UP, CELL_WINDOW = 2, 4
"""How long an application is simulated, in times of an answer: until as many begin as end, and then watched."""
CELL_REQUESTS = 1_000
"""Watched at least."""

OLLAMA = Gpu(pictures_per_s=10_127, batch_ms=1, places=4, tokens_per_s=106, first_token_ms=64)
LARGE_BATCHES = replace(OLLAMA, places=60, tokens_per_s=30)
HOUR = Hour(core=0.04, gpu=0.5)


def cost_table(costs: Costs, measured: Mapping[str, Any]) -> str:
    """Show what each step costs."""
    alone = ", ".join(f"{size}: {ms:.0f}" for size, ms in costs.alone_ms.items())
    beside = ", ".join(f"{size}: {ms:.0f}" for size, ms in costs.beside_ms.items())
    token = ", ".join(f"{role} {costs.token_ms[role]:.2f}" for role in ("Ollama replica", "ingress", "proxy", "Ray"))
    return table(
        ("step", "CPU-ms", "for each", "from"),
        (
            ("caller", f"{costs.client_ms:.1f}", "picture", "measured"),
            ("HAProxy", f"{costs.proxy_ms:.1f}", "picture", "measured"),
            ("decoding and shrinking", f"{costs.decode_ms:.1f}", "picture", "measured, without the service"),
            ("ingress besides that", f"{costs.ingress_ms:.1f}", "picture", "fitted"),
            ("ingress, a call to CLIP", f"{costs.ingress_call_ms:.1f}", "call", "fitted"),
            ("CLIP replica besides the forward pass", f"{costs.clip_ms:.1f}", "picture", "fitted"),
            ("CLIP replica, a call", f"{costs.clip_call_ms:.1f}", "call", "fitted"),
            (f"forward pass on all {measured['cores']} cores, ms", alone, "batch of", "measured, without the service"),
            ("forward pass on a core of its own, ms", beside, "batch of", "measured, without the service"),
            ("a token of a streamed prompt", token, "token", "measured, 64 streams"),
            ("Ray's own processes", f"{1000 * costs.background_cores:.0f}", "second", "measured"),
        ),
    )


def curves(costs: Costs, measured: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], Answers]]:
    """Simulate every level of load that was measured on one machine."""
    retry_after_s = LimitSettings().retry_after_s
    for callers, level in measured["analyses"].items():
        site = one_machine(costs, measured["cores"])
        yield (
            callers,
            level,
            site.crowd(int(callers), retry_after_s=retry_after_s, warm_up_s=WARM_UP_S, window_s=WINDOW_S),
        )
    for callers, level in measured["prompts"].items():
        site = one_machine(costs, measured["cores"], Prompts(PROMPT_TOKENS, TOKENS_PER_S), SERVER_PLACES)
        answers = site.crowd(
            int(callers),
            retry_after_s=retry_after_s,
            warm_up_s=PROMPT_WARM_UP_S,
            window_s=PROMPT_WINDOW_S,
        )
        yield f"{callers}, with prompts", level, answers


def off(measured: float, simulated: float) -> float:
    """Give by what share the simulation is above what was measured."""
    return simulated / measured - 1


def curve_table(compared: Sequence[tuple[str, Mapping[str, Any], Answers]]) -> str:
    """Show measured and simulated rates and latencies."""
    rows = []
    for callers, level, answers in compared:
        p50_ms = percentile(sorted(answers.latencies_ms), 0.5)
        rows.append(
            (
                callers + (" (fitted)" if callers in (FEW, MANY) else ""),
                *(f"{level['rate']:.1f}", f"{answers.per_s:.1f}", f"{off(level['rate'], answers.per_s):+.0%}"),
                *(f"{level['p50_ms']:.0f}", f"{p50_ms:.0f}", f"{off(level['p50_ms'], p50_ms):+.0%}"),
            )
        )
    return table(("callers", "pictures/s measured", "simulated", "off", "p50 ms measured", "simulated", "off"), rows)


def limit_table(costs: Costs) -> str:
    """Show where each part is full."""
    rows = [(f"one {part}", f"{per_s:,.1f}") for part, per_s in full_per_s(costs, OLLAMA, TOKENS).items()]
    cell_per_s = largest_cell_per_s(costs, OLLAMA, TOKENS)
    return table(
        ("part", "is full at pictures/s, each with a prompt"), [*rows, ("one application", f"{cell_per_s:,.1f}")]
    )


def plan_table(costs: Costs, gpu: Gpu, hour: Hour) -> str:
    """Show how many of each every load needs, what their callers see, and what it costs."""
    rows = []
    for per_s in LOADS_PER_S:
        plan = planned(costs, gpu, TOKENS, per_s)
        answer_s = answer_ms(gpu, TOKENS) / 1000
        answers = on_cluster(costs, plan.cell, gpu, TOKENS, MAX_WAITING).stream(
            plan.cell_per_s,
            warm_up_s=CELL_WARM_UP * answer_s,
            window_s=max(CELL_WINDOW * answer_s, CELL_REQUESTS / plan.cell_per_s),
        )
        rows.append((f"{per_s:,}", *counts(plan), *_seen(answers), f"{plan.dollars_per_million(hour):,.0f}"))
    head = ("pictures/s", "applications", "ingress", "CLIP", "GPUs under CLIP", "OllamaDeployment", "Ollama servers")
    return table((*head, "cores", "GPUs", "p50 s", "p99 s", "refused", "dollars per million"), rows)


def counts(plan: Plan) -> Iterator[str]:
    """Give how many of each, of all applications together, as the table shows them."""
    cell = plan.cell
    parts = (cell.ingresses, cell.clips, cell.clip_gpus, cell.writers, cell.servers, cell.cores, cell.gpus)
    yield f"{plan.cells:,}"
    for count in parts:
        yield f"{count * plan.cells:,}"


def _seen(answers: Answers) -> Iterator[str]:
    latencies_ms = sorted(answers.latencies_ms)
    for share in (0.5, 0.99):
        yield f"{percentile(latencies_ms, share) / 1000:.2f}"
    yield f"{answers.refused / (answers.refused + len(latencies_ms)):.1%}"


def quick_tables(costs: Costs, measured: Mapping[str, Any]) -> Mapping[str, str]:
    """Give the page's tables that take seconds, by their names there."""
    machine = measured["machine"]
    return {
        "machine": f"{machine['processor']}; {machine['date']}, commit {machine['commit']}.",
        "costs": cost_table(costs, measured),
        "curve": curve_table(list(curves(costs, measured))),
        "limits": limit_table(costs),
    }


def main() -> None:
    """Print what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="all tables, into docs/scaling.md")
    asked = parser.add_argument_group("a plan of your own, instead of the page's tables")
    kinds = get_type_hints(Gpu)
    for name, kind in kinds.items():
        asked.add_argument(f"--{name.replace('_', '-')}", type=kind)
    asked.add_argument("--core-hour", type=float, help="dollars")
    asked.add_argument("--gpu-hour", type=float, help="dollars")
    options = vars(parser.parse_args())
    own_gpu = {name: options[name] for name in kinds if options[name] is not None}
    own_hour = {name: options[f"{name}_hour"] for name in ("core", "gpu") if options[f"{name}_hour"] is not None}
    measured = read(MEASURED)
    costs = fitted(measured)
    if own_gpu or own_hour:
        print(plan_table(costs, replace(OLLAMA, **own_gpu), replace(HOUR, **own_hour)))
        return
    made = {
        **quick_tables(costs, measured),
        "plan": plan_table(costs, OLLAMA, HOUR),
        "large_batches": plan_table(costs, LARGE_BATCHES, HOUR),
    }
    print("\n\n".join(made.values()))
    if options["write"]:
        PAGE.write_text(filled(PAGE.read_text(), made))


if __name__ == "__main__":
    main()
