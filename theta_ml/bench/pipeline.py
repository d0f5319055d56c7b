"""What a retraining run costs beyond its stages' own work, against plain Airflow with tasks that do nothing.

A stage's own work begins when its process has read its arguments, before it loads its libraries, and ends when its
artifact is in place. The rest is what Airflow, the operator and a process's birth and death take.
"""

import json
import statistics
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from theta_ml.bench import row
from theta_ml.bench.stack import own_stack, run_theta
from theta_ml.cli.airflow import Airflow
from theta_ml.cli.retrain import watch
from theta_ml.local.plan import repository
from theta_ml.settings import Settings
from theta_ml.store import Store

MONTHS = ("2026-01", "2026-02", "2026-03")
"""An ordinary month, one that drifted, one that is blocked: three runs of different length."""
PEER = "bench_peer"
PEER_NAME = "the same DAG of BashOperator('true')"
TARGET_RATIO = 2.0
"""A stage is a Python process of its own and an artifact: at most twice what Airflow itself takes for the same DAG."""


@dataclass(frozen=True)
class Span:
    """Seconds since 1970."""

    start: float
    end: float


@dataclass(frozen=True)
class Measured:
    """One run: the whole, each task, and each stage's own work."""

    whole: Span
    tasks: dict[str, Span]
    work: dict[str, Span]

    @property
    def overhead(self) -> float:
        """Seconds of the run in which no stage was at its own work."""
        return self.whole.end - self.whole.start - _union(list(self.work.values()))


def bench_pipeline() -> list[dict[str, Any]]:
    """Rows: overhead of a run and of a stage in it, ours and the peer's; then each stage's own work."""
    with own_stack(_peer_bundle()) as (settings, environment):
        run_theta(environment, "simulate", "--months", str(len(MONTHS)), "--start", MONTHS[0])
        with Airflow(settings) as airflow:
            ours, theirs = [], []
            for month in MONTHS:
                theirs.append(_measure(airflow, settings, PEER, {}))
                ours.append(_measure(airflow, settings, "theta_retrain", {"month": month, "bootstrap": True}))
    return [_run_row(ours, theirs), *_month_rows(ours, theirs), *_stage_rows(ours[0])]


def _peer_bundle() -> dict[str, str]:
    bundle = "airflow.dag_processing.bundles.local.LocalDagBundle"
    bundles = [
        {"name": "dags-folder", "classpath": bundle, "kwargs": {}},
        {"name": "peer", "classpath": bundle, "kwargs": {"path": str(repository() / "plugins" / "bench")}},
    ]
    return {"AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles)}


def _measure(airflow: Airflow, settings: Settings, dag: str, parameters: dict[str, Any]) -> Measured:
    run_id = airflow.start(parameters, dag)
    watch(airflow, run_id, dag, dag)
    whole = airflow.run_times(run_id, dag)
    tasks = {task: _span(times) for task, times in airflow.task_times(run_id, dag).items() if all(times)}
    store = Store(settings.artifacts, settings.home / "cache")
    artifacts = airflow.artifacts(run_id, dag) if dag != PEER else {}
    work = {task: Span(*store.made(store.open(artifact["uri"]))) for task, artifact in artifacts.items()}
    return Measured(_span(whole), tasks, work)


def _run_row(ours: list[Measured], theirs: list[Measured]) -> dict[str, Any]:
    """Overhead of a run, the median of all."""
    value, peer_value = (statistics.median(run.overhead for run in runs) for runs in (ours, theirs))
    ratio = value / peer_value
    return row(
        "overhead of a run", value, "s", peer=PEER_NAME, peer_value=peer_value, ratio=ratio,
        target=TARGET_RATIO, ok=ratio <= TARGET_RATIO,
    )  # fmt: skip


def _month_rows(ours: list[Measured], theirs: list[Measured]) -> list[dict[str, Any]]:
    """Overhead of each run, and of a stage in it: of those that the first run went through."""
    rows = []
    stages = len(ours[0].work)
    for month, mine, other in zip(MONTHS, ours, theirs, strict=True):
        for what, share in (("run", 1), ("stage", stages)):
            value, peer_value = mine.overhead / share, other.overhead / share
            rows.append(
                row(
                    f"overhead of a {what}, {month}", value, "s", peer=PEER_NAME, peer_value=peer_value,
                    ratio=value / peer_value,
                )
            )  # fmt: skip
    return rows


def _stage_rows(run: Measured) -> list[dict[str, Any]]:
    """For each stage of the first run: its own work, and its task's time beside it."""
    rows = []
    for task, work in run.work.items():
        own, whole = work.end - work.start, run.tasks[task].end - run.tasks[task].start
        rows += [row(f"{task}: own work", own, "s"), row(f"{task}: rest of its task", whole - own, "s")]
    return rows


def _union(spans: list[Span]) -> float:
    """Seconds covered by at least one span."""
    covered, reached = 0.0, float("-inf")
    for span in sorted(spans, key=lambda span: span.start):
        covered += max(0.0, span.end - max(span.start, reached))
        reached = max(reached, span.end)
    return covered


def _span(times: tuple[str, str]) -> Span:
    start, end = (datetime.fromisoformat(text).timestamp() for text in times)
    return Span(start, end)
