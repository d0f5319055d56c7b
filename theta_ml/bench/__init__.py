"""`theta bench NAME`: ours and a peer's, in the same run on the same work."""

import json
import os
import platform
import sys
from importlib import import_module
from typing import Any

import click

BENCHMARKS = {
    "pipeline": ("theta_ml.bench.pipeline:bench_pipeline", "What a retraining run costs beyond its stages' own work."),
    "corpus": ("theta_ml.bench.corpus:bench_corpus", "From Postgres to packed rows, against the usual pipeline."),
    "train": ("theta_ml.bench.train:bench_train", "Tokens a second in training, against TRL's SFTTrainer."),
    "resume": ("theta_ml.bench.resume:bench_resume", "A training killed at any moment, against one that was not."),
    "quality": (
        "theta_ml.bench.quality:bench_quality",
        "Bits per byte at equal tokens, against a Llama trained with TRL.",
    ),
    "decisions": (
        "theta_ml.bench.decisions:bench_decisions",
        "How often the gate is right, against comparing two numbers.",
    ),
    "quality-gate": (
        "theta_ml.bench.quality_gate:bench_quality_gate",
        "False alarms, drift and broken feeds on real months, and what judging a million messages costs.",
    ),
    "scale": (
        "theta_ml.bench.scale:bench_scale",
        "How stages grow with the data, shards on two workers, Celery against the LocalExecutor.",
    ),
    "import": ("theta_ml.bench.landing:bench_import", "Landing conversations, against psycopg's executemany."),
    "up": ("theta_ml.bench.up:bench_up", "Starting everything, against `airflow standalone`."),
}
COLUMNS = ("name", "value", "unit", "peer", "peer_value", "ratio", "target", "ok")


def _names_help() -> str:
    rows = "\n".join(f"  {name:<13}{summary}" for name, (_, summary) in BENCHMARKS.items())
    return f"\b\nBenchmarks:\n{rows}"


@click.command(epilog=_names_help())
@click.argument("name", type=click.Choice(list(BENCHMARKS)), metavar="NAME")
@click.option("--json", "as_json", is_flag=True, help="Print the rows and the machine as JSON.")
def bench(name: str, as_json: bool) -> None:
    """Measure Theta against a peer. Exits 0 where every target is met, 1 where one is missed.

    Each benchmark starts services of its own, on free ports and in a folder of its own, and ends them.
    """
    module, function = BENCHMARKS[name][0].split(":")
    rows: list[dict[str, Any]] = getattr(import_module(module), function)()
    if as_json:
        click.echo(json.dumps({"benchmark": name, "machine": machine(), "rows": rows}, indent=2))
    else:
        _show(rows)
    sys.exit(0 if all(row["ok"] for row in rows) else 1)


def row(
    name: str,
    value: float,
    unit: str,
    *,
    peer: str | None = None,
    peer_value: float | None = None,
    ratio: float | None = None,
    target: float | None = None,
    ok: bool = True,
) -> dict[str, Any]:
    """One row; a number that was only reported has no target and is ok."""
    return dict(zip(COLUMNS, (name, value, unit, peer, peer_value, ratio, target, ok), strict=True))


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    import psutil

    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }


def _show(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*COLUMNS, caption=", ".join(f"{key} {value}" for key, value in machine().items()))
    for each in rows:
        table.add_row(*(_cell(each[column]) for column in COLUMNS), style=None if each["ok"] else "red")
    Console().print(table)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return "" if value is None else f"{value:,.4g}" if isinstance(value, float) else str(value)
