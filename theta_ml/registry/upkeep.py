"""`theta registry check` and `theta registry prune`."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import click

from theta_ml.settings import load_settings


@click.group()
def registry() -> None:
    """MLflow's versions and aliases, against the ledger."""


@registry.command()
@click.option("--repair", is_flag=True, help="Set aliases and tags again, from the ledger.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def check(repair: bool, as_json: bool) -> None:
    """Are aliases, versions, their files and tags as the ledger has them?

    Exit code 1 where something is amiss (with --repair: where something is left). `theta up` sets the aliases again by
    itself.
    """
    from theta_ml.registry.check import check

    with _away():
        faults = check(load_settings(), repair)
    if as_json:
        click.echo(json.dumps([asdict(fault) for fault in faults], indent=2, ensure_ascii=False))
    else:
        for fault in faults:
            subject = f"version {fault.subject}: " if fault.subject.isdigit() else ""
            click.echo(f"{subject}{fault.what}{' (set again)' if fault.repaired else ''}")
        click.echo("" if faults else "All is as the ledger has it.", nl=not faults)
    if not all(fault.repaired for fault in faults):
        sys.exit(1)


@registry.command()
@click.option("--keep", type=click.IntRange(min=1), metavar="N", help="Newest versions kept; THETA_KEEP_VERSIONS.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def prune(keep: int | None, dry_run: bool, as_json: bool) -> None:
    """Remove old versions, with their files in MLflow and in the store.

    Kept whatever their age: the champion and the one before it, what an alias names, what a run has not decided on.
    What the removed models were, and what they learned from, is still told. Broken off, the next one goes on.
    """
    from theta_ml.registry.retention import plan
    from theta_ml.registry.retention import prune as remove

    with _away():
        settings = load_settings()
        number = keep or settings.keep_versions
        done = plan(settings, number) if dry_run else remove(settings, number)
    if as_json:
        click.echo(json.dumps(asdict(done), indent=2))
        return
    would = "would go" if dry_run else "went"
    went = f"versions {', '.join(map(str, done.removed))} {would}" if done.removed else f"nothing {would}"
    click.echo(f"{went}; {done.freed_bytes / 1e6:,.1f} MB of the store; {len(done.kept)} versions are kept")


@contextmanager
def _away() -> Iterator[None]:
    from theta_ml.stage import StageFailed, StageRetry

    try:
        yield
    except StageRetry as error:
        raise click.ClickException(f"{error}; then run the same command again") from None
    except StageFailed as error:
        raise click.ClickException(str(error)) from None
