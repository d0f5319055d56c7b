"""`theta lineage` and `theta erase`."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from theta_ml.lineage.audit import Subject
    from theta_ml.lineage.erase import Survey
    from theta_ml.lineage.trace import Trace


@click.command()
@click.argument("conversation", metavar="CONVERSATION")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def lineage(conversation: str, as_json: bool) -> None:
    """Where a conversation went: landing zone, snapshots, corpora, and the models that learned from it.

    CONVERSATION is its id as the feed has it; of a dataset's conversation, DATASET/ID.
    """
    from dataclasses import asdict

    from theta_ml.landing.database import connect, database_faults
    from theta_ml.lineage.trace import trace
    from theta_ml.settings import load_settings

    with _faults():
        settings = load_settings()
        with database_faults(), connect(settings) as connection:
            connection.autocommit = True  # nobody who detaches a month waits for what MLflow answers
            found = trace(settings, connection, conversation)
    if as_json:
        click.echo(json.dumps(asdict(found) if found.seen else None, indent=2, ensure_ascii=False))
    elif found.seen:
        _print_trace(found)
    if not found.seen:
        click.echo(f"theta: no conversation {conversation} was ever seen here", err=True)
        sys.exit(1)


@click.command()
@click.option("--conversation", metavar="ID", help="Of a conversation; of a dataset's, DATASET/ID.")
@click.option("--user", metavar="ID", help="Of a user: all conversations under that name, and all they spoke in.")
@click.option("--reason", default="", metavar="TEXT", help="For the audit. Name nobody in it: it stays.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only show what would be erased.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def erase(conversation: str | None, user: str | None, reason: str, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Take a conversation, or all of a user's, out of everything that can be read, and keep it out.

    Landing tables, snapshots, packed corpora and reports lose it, imports turn it away from then on, and the models
    that learned from it are named: they cannot forget, train them anew. What is kept is the audit, with the
    conversation's id (a user's only as a hash). Broken off at any point, the same command completes it; once more, it
    says what was done. What a user says later under the same name lands again: erase it again. Backups of the database,
    and files that were exported, are yours to clean.
    """
    from theta_ml.events import Events
    from theta_ml.landing.database import connect, database_faults
    from theta_ml.landing.migrations import migrate
    from theta_ml.lineage.audit import Subject
    from theta_ml.lineage.erase import open_eraser
    from theta_ml.settings import load_settings

    if (conversation is None) == (user is None):
        raise click.UsageError("give --conversation ID or --user ID")
    if not (conversation or user or "").strip():  # a script's variable that is not set; rejected lines do have no id
        raise click.UsageError("the ID is empty: nothing was erased")
    subject = Subject("user", user) if user is not None else Subject("conversation", str(conversation))
    with _faults():
        settings = load_settings()
        migrate(settings.require_database())
        with database_faults(), connect(settings) as connection, Events("erase") as events:
            eraser = open_eraser(settings, connection, events)
            survey = eraser.survey(subject)
            _stop_if_unknown(subject, survey)
            if dry_run or not (survey.settled or yes):
                _print_survey(survey, as_json and dry_run)
            if dry_run or not (survey.settled or yes or _agreed()):
                return
            report = eraser.erase(subject, reason)
    if as_json:
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        _print_report(report)


@contextmanager
def _faults() -> Iterator[None]:
    """What a person should read is one line, not a traceback."""
    from theta_ml.landing.migrations import MigrationError
    from theta_ml.stage import StageRetry

    try:
        yield
    except (StageRetry, MigrationError) as error:
        raise click.ClickException(f"{error}; then run the same command again") from None


def _stop_if_unknown(subject: "Subject", survey: "Survey") -> None:
    if not survey.known:
        click.echo(f"theta: no {subject.scope} {subject.name} was ever seen here; nothing was erased", err=True)
        sys.exit(1)


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise click.UsageError("nobody is there to ask: add --yes, or --dry-run to look only")
    return click.confirm("Erase all this? It cannot be undone.", err=True)


def _print_survey(survey: "Survey", as_json: bool) -> None:
    from dataclasses import asdict

    from theta_ml.lineage.erase import before

    found = before(survey) | {
        "conversations": len(survey.ids),
        "artifacts": [asdict(holding) for holding in survey.holdings],
        "models": [asdict(model) for model in survey.models],
    }
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    _print_found(found)
    if found["copies"]:
        click.echo(
            f"{len(found['copies'])} others say the same under other ids; they stay: {', '.join(found['copies'])}"
        )


def _print_report(report: dict[str, Any]) -> None:
    when = str(report["finished_at"])[:19].replace("T", " ")
    done = "was erased already" if report["already"] else "is erased"
    name = report["subject"] if report["scope"] == "conversation" else "the user"
    click.echo(f"{name} {done}: erasure {report['erasure_id']}, by {report['actor']}, finished {when} UTC")
    _print_found(report["report"])
    for note in report["report"]["notes"]:
        click.echo(f"- {note}")


def _print_found(found: dict[str, Any]) -> None:
    """What was touched, or would be."""
    _table(("where", "what", "conversations"), list(_places(found)))
    if not found["models"]:
        click.echo("No model learned from it.")
        return
    rows = [(_name(m), m["month"], m["how"], _reign(m["champion"])) for m in found["models"]]
    _table(("model", "month", "part in it", "champion"), rows)
    click.echo("Models cannot forget. `theta retrain` makes one without it: the next run's data does not hold it.")


def _places(found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    landing = found["landing"] or {}
    for name, count in landing.items():
        if count:
            yield "landing zone", _LANDING[name], f"{count:,}"
    for stage, group in groupby(found["artifacts"], lambda artifact: artifact["stage"]):
        artifacts = list(group)
        most = artifacts if len(artifacts) <= _SHOWN else artifacts[: _SHOWN - 1]
        for artifact in most:
            yield stage, artifact["key"], f"{artifact['conversations']:,}"
        if len(most) < len(artifacts):
            rest = artifacts[len(most) :]
            yield stage, f"and {len(rest)} more (--json)", f"{sum(each['conversations'] for each in rest):,}"
    if found.get("mlflow_reports"):
        yield "MLflow", "reports of corpora", f"{found['mlflow_reports']:,} runs"
    if found.get("leftovers"):
        yield "this machine", "leftovers of killed stages", f"{found['leftovers']:,} removed"


_SHOWN = 8
"""Artifacts of one kind."""
_LANDING = {
    "conversations": "conversations",
    "messages": "messages",
    "feedback": "ratings",
    "rejected": "rejected lines",
    "feeds": "lines of simulated feeds",
}


def _print_trace(found: "Trace") -> None:
    click.echo(f"{found.conversation_id} ({found.split})")
    if found.landed:
        where = f", import {found.landed['batch_id']} of {found.landed['file']}" if found.landed["batch_id"] else ""
        click.echo(
            f"  landed {found.landed['landed_at'][:19]} UTC from {found.landed['source']}, month "
            f"{found.landed['month']}, {found.landed['messages']:,} messages{where}"
        )
    rows = [("snapshot", row["key"], row["month"], "") for row in found.snapshots]
    rows += [("unit", row["key"], row["name"], row["what"]) for row in found.units]
    rows += [("corpus", row["key"], row["month"], row["what"]) for row in found.corpora]
    rows += [("model", _name(m), m["month"], f"{m['how']}{_champion(m['champion'])}") for m in found.models]
    _table(("", "key", "month", "what became of it"), rows)
    if found.erasure:
        _print_erasure(found.erasure)


def _print_erasure(erasure: dict[str, Any]) -> None:
    reason = f" ({erasure['reason']})" if erasure["reason"] else ""
    done = (
        f"done {erasure['finished_at'][:19]} UTC" if erasure["finished_at"] else "not finished: run `theta erase` again"
    )
    click.echo(
        f"erased by {erasure['actor']}{reason}: erasure {erasure['erasure_id']}, asked for "
        f"{erasure['asked_at'][:19]} UTC, {done}"
    )


def _name(model: dict[str, Any]) -> str:
    if model["version"] is None:
        return f"{model['key'][:12]} (no version)"
    aliases = f" ({', '.join(model['aliases'])})" if model["aliases"] else ""
    return f"version {model['version']}{aliases}"


def _champion(reigns: list[Any]) -> str:
    return f"; champion {_reign(reigns)}" if reigns else ""


def _reign(reigns: list[Any]) -> str:
    return ", ".join(f"{since[:10]} to {until[:10] if until else 'now'}" for since, until in reigns)


def _table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in titles:
        table.add_column(title)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 140, markup=False, highlight=False).print(table)
