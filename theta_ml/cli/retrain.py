"""`theta retrain`: start the DAG for a month and, with --wait, follow it to its decision."""

import json
import time
from collections.abc import Iterator
from typing import Any

import click

from theta_ml.cli.airflow import DAG, WAITING, Airflow, AirflowAway, Run
from theta_ml.cli.options import month_option
from theta_ml.settings import Settings, load_settings

POLL_SECONDS = 1.0
AWAY_SECONDS = 120.0
"""How long a lost Airflow is waited for: its supervisor restarts it well within this."""
MARKS = {
    "success": "[green]✓[/]", "failed": "[red]✗[/]", "upstream_failed": "[red]·[/]", "running": "[cyan]▶[/]",
    "skipped": "[dim]–[/]", "up_for_retry": "[yellow]↻[/]", "queued": "…", "scheduled": "…",
    WAITING: "[yellow]?[/]",
}  # fmt: skip


@click.command()
@click.option("--month", required=True, callback=month_option, help="Month to retrain on, YYYY-MM.")
@click.option("--bootstrap", is_flag=True, help="Let the first candidate ever become champion.")
@click.option(
    "--accept-feed", is_flag=True, help="You have looked: what drift calls another feed is meant, and trained on."
)
@click.option("--preset", type=click.Choice(["tiny", "base"]), default="tiny", show_default=True)
@click.option(
    "--recipe", "recipes", multiple=True, default=["continue"], show_default=True,
    help="A candidate's recipe; once for each, and the best of them meets the champion.",
)  # fmt: skip
@click.option("--new-tokenizer", is_flag=True, help="Train a tokenizer, and so a model from scratch.")
@click.option(
    "--approval/--no-approval", default=None,
    help="A person must say yes, in Airflow, before a candidate is promoted; default: the setting THETA_APPROVAL.",
)  # fmt: skip
@click.option(
    "--approval-hours", type=click.FloatRange(min=0, min_open=True),
    help="How long that person is waited for; then the answer is no.",
)  # fmt: skip
@click.option(
    "--shards", type=click.IntRange(1, 64),
    help="Into how many parts snapshot and corpus are split, for workers to make side by side; default: THETA_SHARDS.",
)  # fmt: skip
@click.option("--wait", is_flag=True, help="Follow the run and print its decision; exit 1 if it failed.")
@click.option("--json", "as_json", is_flag=True, help="Print the run, and with --wait its decision, as JSON.")
def retrain(
    month: str,
    bootstrap: bool,
    accept_feed: bool,
    preset: str,
    recipes: tuple[str, ...],
    new_tokenizer: bool,
    approval: bool | None,
    approval_hours: float | None,
    shards: int | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Retrain on a month's conversations, through Airflow.

    A promotion, a rejection and a blocked month are all answers: exit 0. Ctrl-C stops waiting, not the run. Where a
    person is waited for, --wait says so, and where to answer.
    """
    settings = load_settings()
    _require_sound(recipes, settings)
    tokenizer = "new" if new_tokenizer else "champion"
    parameters = {
        "month": month, "bootstrap": bootstrap, "preset": preset, "recipes": list(recipes), "tokenizer": tokenizer,
        "approval": approval, "approval_hours": approval_hours, "accept_feed": accept_feed, "shards": shards,
    }  # fmt: skip
    parameters = {name: value for name, value in parameters.items() if value is not None}
    with Airflow(settings) as airflow:
        answer = start(airflow, parameters)
        if wait:
            answer = follow(airflow, settings, answer)
    click.echo(json.dumps(answer, indent=2) if as_json else _in_words(answer))
    if answer.get("state") == "failed":
        raise SystemExit(1)


def _require_sound(recipes: tuple[str, ...], settings: Settings) -> None:
    """Rather said here than in the mail about a run that failed."""
    from theta_ml.training.recipe import RecipeError, find_recipe

    try:
        for name in recipes:
            find_recipe(name, settings)
    except RecipeError as error:
        raise click.ClickException(str(error)) from None


def start(airflow: Airflow, parameters: dict[str, Any]) -> dict[str, Any]:
    """A run begun: its `run_id`, `month` and `url`."""
    run_id = airflow.start(parameters)
    return {"run_id": run_id, "month": parameters["month"], "url": airflow.page(run_id)}


def follow(airflow: Airflow, settings: Settings, begun: dict[str, Any]) -> dict[str, Any]:
    """The same with the `state` the run ended in and its `decision`, a row of the ledger or None."""
    from theta_ml.registry.ledger import outcome_of, row

    state = watch(airflow, begun["run_id"], begun["month"])
    entry = outcome_of(settings, begun["run_id"])
    return begun | {"state": state, "decision": row(entry) if entry else None}


def watch(airflow: Airflow, run_id: str, title: str, dag: str = DAG) -> str:
    """Shows a run until it is finished; returns the state it ended in."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    state = "queued"
    shown: dict[str, str | None] = {}
    waiting: list[str] = []
    try:
        with Live(console=console, auto_refresh=console.is_terminal, transient=True) as live:
            for run in _states(airflow, run_id, dag):
                state = run.state
                for task in set(run.waiting) - set(waiting):
                    console.print(f"{title}  waits for a person: {airflow.action(run_id, task, dag)}", soft_wrap=True)
                waiting = run.waiting
                if console.is_terminal:
                    live.update(_line(title, run))
                else:
                    _print_changes(console, title, shown, run)
    except KeyboardInterrupt:
        console.print(f"not waiting any more; the run goes on: {airflow.page(run_id)}")
        raise SystemExit(130) from None
    return state


def _states(airflow: Airflow, run_id: str, dag: str) -> Iterator[Run]:
    """The run, each second, until it is finished."""
    lost_at: float | None = None
    while True:
        try:
            run = airflow.run(run_id, dag)
        except AirflowAway:
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > AWAY_SECONDS:
                raise
        else:
            lost_at = None
            yield run
            if run.finished:
                return
        time.sleep(POLL_SECONDS)


def _line(title: str, run: Run) -> str:
    from rich.markup import escape

    marks = (f"{MARKS.get(state or '', '·')} {escape(task)}" for task, state in run.tasks.items())
    return f"{title}  " + "  ".join(marks)


def _print_changes(console: Any, title: str, shown: dict[str, str | None], run: Run) -> None:
    from rich.markup import escape

    for task, state in run.tasks.items():
        if state and state not in ("scheduled", "queued", "removed") and shown.get(task) != state:
            console.print(f"{title}  {MARKS.get(state, '·')} {escape(task)} {state}", highlight=False)
            shown[task] = state


def _in_words(answer: dict[str, Any]) -> str:
    decision = answer.get("decision")
    if decision:
        return f"{answer['month']}  {decision['decision']}: {decision['sentence']}\n{answer['url']}"
    if "state" in answer:
        return f"{answer['month']}  {answer['state']}, without a decision; see {answer['url']}"
    return f"started {answer['run_id']}; follow it at {answer['url']}"
