"""Stage `validate`: is the month's data fit to train on?

The suites in `expectations/` judge features of exactly the run's month. A month that does not pass is a result, not an
error: the report says in plain words what is wrong.
"""

from dataclasses import asdict, dataclass, field, replace

from theta_ml.landing.snapshot import Snapshot
from theta_ml.month import Month
from theta_ml.quality.batch import Batch, load_batch
from theta_ml.quality.history import Past, elapsed, read_past, usual_volume
from theta_ml.quality.report import write_report
from theta_ml.quality.suite import Check, Parameters, read_suite, run_suite, suites_key
from theta_ml.quality.thresholds import ValidateSpec
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, Stage, StageFailed, Work

SUITES = ["conversations", "messages"]
_NAMED_FAULTS = 3


@dataclass(frozen=True)
class ValidationReport:
    """The verdict on the month's data. File report.html, self-contained."""

    month: str
    passed: bool
    sentence: str
    checks: list[Check]
    quarantined: dict[str, int] = field(default_factory=dict)
    """Conversations of the month that are set aside, by the rule they break."""


def resolve(spec: ValidateSpec, inputs: Inputs, settings: Settings, run_id: str) -> ValidateSpec:
    """Names the suites' text before the stage's key is taken."""
    return replace(spec, suites=suites_key(SUITES))


def validate(spec: ValidateSpec, inputs: Inputs, work: Work) -> ValidationReport:
    """Raises StageFailed where a suite is at fault or the snapshot is of another month."""
    snapshot = inputs.noun("snapshot", Snapshot)
    if snapshot.month != spec.month:
        raise StageFailed(f"the snapshot is of {snapshot.month}, not of {spec.month}")
    path = inputs.path("snapshot")
    batch = load_batch(path, spec.month)
    past = read_past(path, snapshot.window[:-1][-spec.history_months :])
    report = judge(spec, snapshot, batch, past)
    write_report(work.path / "report.html", report)
    work.events.log(report.sentence)
    return report


def judge(spec: ValidateSpec, snapshot: Snapshot, batch: Batch, past: Past) -> ValidationReport:
    """Runs the suites on the batch."""
    conversations = batch.conversations.assign(seen_before=batch.conversations["fingerprint"].isin(past.fingerprints))
    frames = {"conversations": conversations, "messages": batch.messages}
    known = parameters(spec, snapshot, past)
    checks = [check for name in SUITES for check in run_suite(read_suite(name), frames[name], spec.month, known)]
    passed = all(check.passed for check in checks)
    return ValidationReport(spec.month, passed, _sentence(spec.month, len(batch), checks), checks, snapshot.quarantined)


def parameters(spec: ValidateSpec, snapshot: Snapshot, past: Past) -> Parameters:
    """What the suites may name: the spec's fields, the month's bounds, and what the months before lead to expect."""
    month = Month.parse(spec.month)
    counts = [snapshot.months[earlier]["conversations"] for earlier in snapshot.window[:-1]]
    volume = usual_volume(counts, elapsed(snapshot), spec.lowest_volume, spec.lowest_volume_unsure, spec.highest_volume)
    reply = past.usual_reply(spec.reply_length_factor)
    return asdict(spec) | {
        "month_start": month.start,
        "month_end": month.end,
        "volume_low": volume[0],
        "volume_high": volume[1],
        "reply_chars_low": reply[0],
        "reply_chars_high": reply[1],
    }


def _sentence(month: str, conversations: int, checks: list[Check]) -> str:
    failed = [check for check in checks if not check.passed]
    if not failed:
        return f"{month} is fit to train on: {conversations:,} conversations passed {len(checks)} checks"
    faults = sorted(failed, key=lambda check: check.observed is None)  # what could not be measured says least
    named = "; ".join(check.sentence for check in faults[:_NAMED_FAULTS])
    rest = f"; and {len(faults) - _NAMED_FAULTS} more" if len(faults) > _NAMED_FAULTS else ""
    return f"{month} is blocked: {named}{rest}"


STAGE = Stage("validate", 1, ValidateSpec, validate, resolve)
