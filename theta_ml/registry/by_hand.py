"""A person puts a champion in, or goes back to the one before: a row of the ledger with name, reason and an end."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg

from theta_ml.champion import Champion
from theta_ml.registry import aliases
from theta_ml.registry.champion import as_champion, model_version
from theta_ml.registry.files import lost
from theta_ml.registry.ledger import (
    Entry,
    append,
    champion_of,
    clock,
    lock_champion,
    open_ledger,
    predecessor,
    retired,
)
from theta_ml.settings import Settings
from theta_ml.stage import StageFailed

DAYS = 30
"""That a champion put in by hand holds where nobody says otherwise."""


class Refused(Exception):
    """What a person asked for makes no sense, or cannot be had; nothing was changed."""


@dataclass(frozen=True)
class Word:
    """A person's."""

    actor: str
    reason: str
    until: datetime | None = None
    """No run replaces the champion before; default: 30 days from now."""


def promote(settings: Settings, version: int, word: Word) -> Entry:
    """Makes `version` champion. Raises Refused, StageRetry where Postgres or MLflow is away."""
    with open_ledger(settings) as ledger:
        lock_champion(ledger)
        return _put_in(settings, ledger, "manual", version, word)


def roll_back(settings: Settings, word: Word) -> Entry:
    """Back to the champion before the present one; raises as `promote` does."""
    with open_ledger(settings) as ledger:
        lock_champion(ledger)
        version = predecessor(ledger)
        if version is None:
            standing = champion_of(ledger)
            none = "there is no champion yet" if standing is None else f"version {standing} is the first champion"
            raise Refused(f"{none}: there is none before it to go back to")
        return _put_in(settings, ledger, "rolled_back", version, word)


def _put_in(settings: Settings, ledger: psycopg.Connection, decision: str, version: int, word: Word) -> Entry:
    until = _until(ledger, word)
    champion = _usable(settings, ledger, version)
    before = champion_of(ledger)
    entry = Entry(
        run_id=f"by-hand-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}",
        month=champion.month,
        decision=decision,
        sentence=_sentence(decision, champion, before, until),
        candidate_version=version,
        champion_before=before,
        champion_after=version,
        actor=word.actor,
        numbers={},
        reason=word.reason.strip(),
        expires_at=until,
    )
    written = append(ledger, entry)
    aliases.crown(settings, version)
    return written


def _until(ledger: psycopg.Connection, word: Word) -> datetime:
    now = clock(ledger)
    until = word.until or now + timedelta(days=DAYS)
    if not word.reason.strip():
        raise Refused("a champion put in by hand needs a reason: --reason TEXT; the ledger keeps it")
    if not word.actor.strip():
        raise Refused("nobody's name stands for it: --actor NAME")
    if until <= now:
        raise Refused(f"--until is {until:%Y-%m-%d %H:%M} UTC, which is past; name a day to come")
    return until


def _usable(settings: Settings, ledger: psycopg.Connection, version: int) -> Champion:
    if retired(ledger, version) is not None:
        raise Refused(f"version {version} was retired: its files were removed to make room; train its month anew")
    try:
        champion = as_champion(model_version(settings, version))
    except StageFailed as error:
        raise Refused(str(error)) from None
    if fault := lost(settings, champion):
        raise Refused(f"the model of version {version} is gone: {fault}")
    return champion


def _sentence(decision: str, champion: Champion, before: int | None, until: datetime) -> str:
    what = f"version {champion.version}, trained up to {champion.month},"
    if decision == "rolled_back":
        done = f"Rolled back from version {before} to {what[:-1]}"
    elif before == champion.version:
        done = f"By hand: {what} stays champion"
    else:
        done = f"By hand: {what} {f'replaces version {before}' if before else 'is the first champion'}"
    return f"{done}; no run replaces it before {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC."
