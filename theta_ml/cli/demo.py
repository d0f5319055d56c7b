"""`theta demo`: everything running, months simulated and retrained one after the other, and what came of each."""

import sys
from typing import Any

import click

from theta_ml.month import Month
from theta_ml.settings import load_settings

FIRST_MONTH = "2026-01"


@click.command()
@click.option("--months", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--seed", default=7, show_default=True, help="The same seed lands the same conversations.")
@click.pass_context
def demo(ctx: click.Context, months: int, seed: int) -> None:
    """Start everything, simulate months of conversations, retrain on each, and show what was decided.

    The data alone brings it all about: a first model, a better one, a damaged month that is stopped, a quiet one.
    Run again, it finds what is there and retrains on the same months.
    """
    from theta_ml.landing.commands import simulate
    from theta_ml.local.commands import up, where

    ctx.invoke(up)
    ctx.invoke(simulate, months=months, seed=seed, start=FIRST_MONTH)
    names = [str(Month.parse(FIRST_MONTH).shift(number)) for number in range(months)]
    answers = [_retrain(name, bootstrap=name == FIRST_MONTH) for name in names]
    _show(answers)
    where()
    sys.exit(0 if all(answer["decision"] for answer in answers) else 1)


def _retrain(month: str, bootstrap: bool) -> dict[str, Any]:
    from theta_ml.cli.airflow import Airflow
    from theta_ml.cli.retrain import follow, start

    settings = load_settings()
    with Airflow(settings) as airflow:
        return follow(airflow, settings, start(airflow, {"month": month, "bootstrap": bootstrap}))


def _show(answers: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("month", "decision", "sentence", show_lines=True)
    for answer in answers:
        decision = answer["decision"] or {"decision": answer["state"], "sentence": f"see {answer['url']}"}
        table.add_row(answer["month"], decision["decision"], decision["sentence"])
    Console().print(table)
