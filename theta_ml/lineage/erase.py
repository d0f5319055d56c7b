"""Takes a conversation, or all of a user's, out of everything that can be read.

The audit comes first, then the landing zone, then the artifacts in the order in which they are made, so that nothing is
made anew from what was not reached yet. Each step can be repeated: what is broken off at any point is completed by the
same command, and the erasure counts as unfinished until everything was seen done.
"""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import psycopg

from theta_ml.events import Events
from theta_ml.landing.database import connect, database_faults
from theta_ml.lineage import audit, copies, landed, published
from theta_ml.lineage.audit import Erasure, Subject
from theta_ml.lineage.holdings import (
    PACK,
    PREPARE,
    SNAPSHOT,
    Holding,
    copies_of,
    erase_from,
    forget_measured,
    holdings,
    is_torn,
)
from theta_ml.lineage.landed import Rows
from theta_ml.lineage.snapshots import ids_of_user as ids_of_user_in_snapshot
from theta_ml.lineage.units import ids_of_user as ids_of_user_in_unit
from theta_ml.lineage.versions import Model, are_taught, models_with
from theta_ml.month import MONTH_PATTERN
from theta_ml.settings import Settings
from theta_ml.store import HOLDING, Store

Report = dict[str, Any]
_NAMED = 20


@dataclass(frozen=True)
class Survey:
    """What there is of a subject, before anything is changed."""

    ids: frozenset[str]
    names: frozenset[str]
    """What rejected lines know it by."""
    landed: Rows
    feeds: int
    """Lines of simulated feeds."""
    holdings: list[Holding]
    copies: list[str]
    """Ids of others that say the same: they are not erased with it."""
    models: list[Model]
    before: Erasure | None
    """An erasure of it that was finished or broken off."""

    @property
    def held(self) -> bool:
        """Whether anything of it can still be read."""
        return self.landed != Rows() or bool(self.holdings) or self.feeds > 0

    @property
    def known(self) -> bool:
        """Whether it was ever seen."""
        return self.held or bool(self.models) or self.before is not None

    @property
    def settled(self) -> Erasure | None:
        """The erasure that has done it all already."""
        return self.before if self.before and self.before.finished_at and not self.held else None


@dataclass(frozen=True)
class Eraser:
    """One erasure's tools."""

    settings: Settings
    store: Store
    connection: psycopg.Connection
    """In autocommit mode, so that locks outlast transactions."""
    events: Events

    def survey(self, subject: Subject) -> Survey:
        """Reads everything, changes nothing."""
        ids = audit.known_ids(self.connection, subject) | self._ids_of_user(subject)
        names = ids | {subject.name}
        found: list[Holding] = []
        for stage in HOLDING:
            found += holdings(self.store, stage, ids, _of_units(found))
        return Survey(
            ids=ids,
            names=names,
            landed=landed.count(self.connection, ids, names),
            feeds=copies.count_in_feeds(self.settings, ids),
            holdings=found,
            copies=copies_of(self.store, ids, found),
            models=models_with(self.settings, self.store, self.connection, ids),
            before=self._before(subject),
        )

    def erase(self, subject: Subject, reason: str = "") -> Report:
        """The report, which the audit keeps; of an erasure done before, that one's. Raises StageRetry and SettingsError
        where a server is away or not set: run it again."""
        with audit.one_at_a_time(self.connection) as waited:
            if waited:
                self.events.log("waited for another erasure to end")
            survey = self.survey(subject)
            if survey.settled:
                return shown(survey.settled, again=True)
            erasure = self._open(subject, survey, reason)
            report = self._carry_out(survey, erasure)
            audit.finish(self.connection, erasure, report)
            finished = audit.newest(self.connection, subject)
        assert finished is not None
        return shown(finished)

    def _open(self, subject: Subject, survey: Survey, reason: str) -> Erasure:
        erasure = audit.open_erasure(self.connection, subject, survey.ids, reason, before(survey))
        self.events.log(f"erasure {erasure.erasure_id}: {len(survey.ids)} conversations stay out from here on")
        return erasure

    def _carry_out(self, survey: Survey, erasure: Erasure) -> Report:
        ids = survey.ids | audit.ids_of(self.connection, erasure.erasure_id)
        names = survey.names | ids
        landed.remove(self.connection, ids, names)
        landed.vacuum(self.connection)
        copies.scrub_feeds(self.settings, ids)
        self.events.log("landing zone: removed")
        found: list[Holding] = []
        measured = 0
        for stage in HOLDING:
            measured += self._forget_measured()
            found += self._scrub(stage, ids, _of_units(found), erasure)
        measured += self._forget_measured()
        self.events.log(f"digests: {measured} thrown away; they are made anew where they are needed")
        leftovers = copies.remove_leftovers(self.store)
        reports = published.replace_reports(self.settings, self.store, _keys(found, PREPARE))
        models = models_with(self.settings, self.store, self.connection, ids)
        restarted, under_way = self._restart_trainings(ids)
        assert erasure.report is not None, "what was found is written down first"
        return erasure.report | {
            "conversations": len(ids),
            "artifacts": [asdict(each) for each in found],
            "leftovers": leftovers,
            "mlflow_reports": reports,
            "models": [asdict(model) for model in models],
            "notes": [
                *_notes(erasure.report["copies"], self._datasets(found), models, restarted, under_way),
                *self._beyond(),
            ],
        }

    def _beyond(self) -> Iterator[str]:
        """What lies where this machine does not reach."""
        if self.store.keeps_old_versions():
            yield f"{self.store.root.url}: its bucket keeps older versions of what was changed; have it expire them"
        if not self.store.local:
            yield (
                "other machines give up their copies when they next run a stage; a training that was broken off there "
                "goes on from the checkpoints in its THETA_HOME: remove them"
            )

    def _forget_measured(self) -> int:
        """What was measured, or is part of what is made next, is of what was not clean then; what is read from here on
        is. Who has begun to read such parts by the time they are gone is late when `_scrub` begins."""
        self.store.begin_erasure()
        return forget_measured(self.store)

    def _scrub(self, stage: str, ids: frozenset[str], of_units: dict[str, int], erasure: Erasure) -> Iterator[Holding]:
        self.store.begin_erasure()  # for each kind anew: what it is made from is clean by now
        for holding in erase_from(self.store, stage, ids, of_units, erasure.erasure_id):
            self.events.log(f"{stage} {holding.key}: {holding.conversations} conversations removed")
            yield holding

    def _restart_trainings(self, ids: frozenset[str]) -> tuple[int, str | None]:
        """All that were broken off: their checkpoints do not say which corpus they are of."""
        taught = are_taught(self.connection, ids)
        return copies.remove_checkpoints(self.settings, self.store) if taught else (0, None)

    def _datasets(self, found: list[Holding]) -> set[str]:
        """Those of the catalog whose files hold it."""
        documents = (self.store.document(holding.uri) for holding in found if holding.stage == PACK)
        names = {document["value"]["name"] for document in documents if document}
        return {name for name in names if not re.fullmatch(MONTH_PATTERN, name)}

    def _ids_of_user(self, subject: Subject) -> frozenset[str]:
        """Ids under the user's pseudonym in artifacts, whatever the landing zone holds by now."""
        if not subject.is_user:
            return frozenset()
        pseudonym, found = audit.written(self.connection, subject), frozenset[str]()
        for stage, ids_of in ((SNAPSHOT, ids_of_user_in_snapshot), (PACK, ids_of_user_in_unit)):
            for uri in self.store.places(stage):
                with self.store.rewriting(uri) as files:
                    found |= frozenset() if is_torn(files, stage) else ids_of(files, pseudonym)
        return found

    def _before(self, subject: Subject) -> Erasure | None:
        own = audit.newest(self.connection, subject)
        return own if own or subject.is_user else audit.erasure_of(self.connection, subject.name)


def open_eraser(settings: Settings, connection: psycopg.Connection, events: Events) -> Eraser:
    connection.autocommit = True
    return Eraser(settings, Store(settings.artifacts, settings.home / "cache"), connection, events)


def erase(settings: Settings, subject: Subject, events: Events, reason: str = "") -> Report:
    """See `Eraser.erase`."""
    with database_faults(), connect(settings) as connection:
        return open_eraser(settings, connection, events).erase(subject, reason)


def shown(erasure: Erasure, again: bool = False) -> Report:
    """The row of the audit as JSON has it."""
    row = asdict(erasure)
    times = {name: row[name] and row[name].isoformat() for name in ("asked_at", "finished_at")}
    return row | times | {"report": erasure.report, "already": again}


def _of_units(found: list[Holding]) -> dict[str, int]:
    return {holding.key: holding.conversations for holding in found if holding.stage == PACK}


def _keys(found: list[Holding], stage: str) -> frozenset[str]:
    return frozenset(holding.key for holding in found if holding.stage == stage)


def before(survey: Survey) -> Report:
    """What an erasure finds, which cannot be counted any more when it is done."""
    return {"landing": asdict(survey.landed) | {"feeds": survey.feeds}, "copies": survey.copies}


def _notes(
    copied: list[str], datasets: set[str], models: list[Model], restarted: int, under_way: str | None
) -> Iterator[str]:
    """What is left to do for people."""
    if copied:
        named = ", ".join(copied[:_NAMED]) + (" …" if len(copied) > _NAMED else "")
        yield f"{len(copied)} others say the same under other ids and stay: {named}"
    for name in sorted(datasets):
        yield f"dataset {name}: its file is yours and still holds it; corpora leave it out, remove it there too"
    if restarted:
        yield f"{restarted} trainings that were broken off begin anew when they run again"
    if under_way:
        yield f"the training {under_way} is under way and may have learned it: stop it, or do not promote its model"
    if any(until is None for model in models for _, until in model.champion):
        yield "the champion learned it: `theta retrain` makes a candidate from data without it"
