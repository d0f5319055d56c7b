"""Stage `validate`: is the month's data fit to train on?

The suites in `expectations/` are run in Postgres, on exactly the run's month as the snapshot's watermark has it. A
month that does not pass is a result, not an error: the report says in plain words what is wrong. Conversations that the
snapshot has set aside are judged with the others: a month with too many of them is blocked.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta

import psycopg

from theta_ml.landing.database import connect, database_faults, query
from theta_ml.landing.parquet import read_faults
from theta_ml.landing.quarantine import reasons
from theta_ml.landing.snapshot import Snapshot, landed_in
from theta_ml.landing.suites import SUITES, digest, read_suite
from theta_ml.month import Month
from theta_ml.quality.docs import make_self_contained
from theta_ml.quality.history import elapsed, usual_reply, usual_user, usual_volume, whole_months
from theta_ml.quality.judging import Judge
from theta_ml.quality.limits import limited
from theta_ml.quality.report import write_report
from theta_ml.quality.suite import Check, Parameters, run_suite
from theta_ml.quality.tables import SCHEMA, FeatureTables, Span, feature_tables
from theta_ml.quality.thresholds import ValidateSpec
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, Stage, StageFailed, Work

DOCS = "data_docs"
JUDGED = ("landing", *SUITES)
"""Suites, in their order."""
_NAMED_FAULTS = 3
_BEFORE, _AFTER = timedelta(days=1), timedelta(days=7)
"""Talks that the month holds may begin the day before in another time zone, and some go on for days."""


@dataclass(frozen=True)
class ValidationReport:
    """The verdict on the month's data. File report.html, self-contained; folder data_docs, Great Expectations' own."""

    month: str
    passed: bool
    sentence: str
    checks: list[Check]
    quarantined: dict[str, int] = field(default_factory=dict)
    """Conversations of the month that are set aside, by the rule they break."""


def resolve(spec: ValidateSpec, inputs: Inputs, settings: Settings, run_id: str) -> ValidateSpec:
    """Names the team's limits and the suites' text before the stage's key is taken: edited, they judge anew."""
    return replace(limited("validate", spec, settings), suites=digest([read_suite(name) for name in JUDGED]))


def validate(spec: ValidateSpec, inputs: Inputs, work: Work) -> ValidationReport:
    """Raises StageFailed where a suite is at fault, the snapshot is of another month, or a month is detached since."""
    snapshot = inputs.noun("snapshot", Snapshot)
    if snapshot.month != spec.month:
        raise StageFailed(f"the snapshot is of {snapshot.month}, not of {spec.month}")
    # Great Expectations takes seconds to load: Postgres computes meanwhile.
    with database_faults(), connect(work.settings) as connection, ThreadPoolExecutor(1) as pool:
        connection.autocommit = True
        opening = pool.submit(Judge.open, work.settings.require_database(), SCHEMA, work.path / DOCS)
        # The judge goes first: its connection may hold locks, under which no table can be dropped.
        with feature_tables(connection, work.key, span(spec, snapshot)) as tables, closing(opening.result()) as judge:
            checks = run_checks(spec, snapshot, tables, judge)
        set_aside(connection, inputs, snapshot, work.run_id)
    judge.write_docs()
    make_self_contained(work.path / DOCS, spec.month)
    report = _report(spec.month, tables.rows["conversations"], checks, snapshot.quarantined)
    write_report(work.path / "report.html", report, snapshot, reasons())
    work.events.log(report.sentence)
    return report


def span(spec: ValidateSpec, snapshot: Snapshot) -> Span:
    """The month, and those before it that the snapshot holds."""
    month, past = Month.parse(spec.month), snapshot.window[:-1][-spec.history_months :]
    return Span(month.start, month.end, datetime.fromisoformat(snapshot.watermark), past)


def run_checks(spec: ValidateSpec, snapshot: Snapshot, tables: FeatureTables, judge: Judge) -> list[Check]:
    """All suites on the month's tables."""
    known = parameters(spec, snapshot, tables)
    return [check for name in JUDGED for check in run_suite(name, tables, judge, spec.month, known)]


def parameters(spec: ValidateSpec, snapshot: Snapshot, tables: FeatureTables) -> Parameters:
    """What the suites may name: the spec's fields, the month's bounds, and what the months before lead to expect."""
    month = Month.parse(spec.month)
    past = tables.past
    counts = [landed_in(snapshot, earlier) for earlier in whole_months(snapshot.window[:-1], tables.began)]
    volume = usual_volume(counts, elapsed(snapshot), spec.lowest_volume, spec.lowest_volume_unsure, spec.highest_volume)
    reply = usual_reply(past, spec.reply_length_factor)
    return asdict(spec) | {
        "earliest_message": (month.start - _BEFORE).isoformat(),
        "latest_message": (month.end + _AFTER).isoformat(),
        "volume_low": volume[0],
        "volume_high": volume[1],
        "reply_chars_low": reply[0],
        "reply_chars_high": reply[1],
        "one_user_high": usual_user(past, spec.max_one_user),
        "new_languages_high": spec.max_new_languages if past else None,
    }


def set_aside(connection: psycopg.Connection, inputs: Inputs, snapshot: Snapshot, run_id: str) -> None:
    """Writes the table `quarantine`: what the snapshot's file says of the month, whatever the suites say by now."""
    faults = read_faults(inputs.path("snapshot"), snapshot.month)
    why = reasons()
    broken = [(each, rule, why.get(rule, rule)) for each, names in faults.items() for rule in names]
    if broken:
        ids, rules, told = (list(column) for column in zip(*broken, strict=True))
        key = inputs.artifact("snapshot").key
        rows = {"snapshot_key": key, "month": snapshot.month, "run_id": run_id, "ids": ids, "rules": rules}
        connection.execute(query("set_aside"), rows | {"reasons": told})


def _report(month: str, conversations: int, checks: list[Check], quarantined: dict[str, int]) -> ValidationReport:
    passed = all(check.passed for check in checks)
    return ValidationReport(month, passed, _sentence(month, conversations, checks), checks, quarantined)


def _sentence(month: str, conversations: int, checks: list[Check]) -> str:
    failed = [check for check in checks if not check.passed]
    if not failed:
        return f"{month} is fit to train on: {conversations:,} conversations passed {len(checks)} checks"
    faults = sorted(failed, key=lambda check: check.observed is None)  # what could not be measured says least
    named = "; ".join(check.sentence for check in faults[:_NAMED_FAULTS])
    rest = f"; and {len(faults) - _NAMED_FAULTS} more" if len(faults) > _NAMED_FAULTS else ""
    return f"{month} is blocked: {named}{rest}"


STAGE = Stage("validate", 4, ValidateSpec, validate, resolve)
