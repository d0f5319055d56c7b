"""Stage `promote`: the candidate becomes champion, if it still stands the gate against whoever is champion by now.

Between the verdict and this stage another run may have ended, a person may have been asked, or have put a champion in
by hand: then the candidate is measured and judged again, and the ledger says what comes of it. Nobody is asked to
clear a task.
"""

from dataclasses import dataclass, replace

from theta_ml.evaluation.verdict import Verdict
from theta_ml.registry.champion import current
from theta_ml.registry.judgement import Judgement, judge, judged_before
from theta_ml.registry.ledger import CROWNING, Entry, alone, champion_of, open_ledger
from theta_ml.registry.publish import publish_verdict
from theta_ml.registry.settle import settle, settled, verdict_of
from theta_ml.stage import Inputs, Stage, StageSkipped, Work


@dataclass(frozen=True)
class PromoteSpec:
    month: str
    """Month of the run."""
    approved_by: str = ""
    """Who said yes, where a person was asked."""


@dataclass(frozen=True)
class Promotion:
    """What the ledger says of the run."""

    month: str
    decision: str
    sentence: str
    candidate_version: int | None
    champion_before: int | None
    champion_after: int | None

    @classmethod
    def of(cls, entry: Entry) -> "Promotion":
        return cls(
            entry.month,
            entry.decision,
            entry.sentence,
            entry.candidate_version,
            entry.champion_before,
            entry.champion_after,
        )


def promote(spec: PromoteSpec, inputs: Inputs, work: Work) -> Promotion:
    verdict = yes_of(inputs)
    entry = settled(work.settings, work.run_id)
    if entry is None:
        entry = _conclude(spec, judged_before(inputs.artifact("decide"), verdict, inputs, work), work)
    elif entry.decision in CROWNING and _stands(entry, work):  # an attempt that was broken off may have left it unsaid
        _publish(judged_before(inputs.artifact("decide"), verdict_of(entry), inputs, work), work)
    work.events.log(entry.sentence)
    return Promotion.of(entry)


def _conclude(spec: PromoteSpec, judged: Judgement, work: Work) -> Entry:
    while True:
        entry = settle(work.settings, judged.verdict, judged.numbers, work.run_id, spec.approved_by)
        if entry:
            if entry.decision in CROWNING:
                _publish(replace(judged, verdict=verdict_of(entry)), work)
            return entry
        judged = judge(replace(judged.spec, champion=current(work.settings)), judged.inputs, work)


def _stands(entry: Entry, work: Work) -> bool:
    """Whether it made the champion of today: an older one may have left MLflow, and its page is not looked at."""
    with open_ledger(work.settings) as ledger:
        return champion_of(ledger) == entry.champion_after


def _publish(judged: Judgement, work: Work) -> None:
    """The verdict again, whose page has said so far that the gate says yes."""
    run = judged.verdict.mlflow_run_id
    assert run is not None, "`decide` has put its evidence there"
    with alone(work.settings, work.run_id):
        publish_verdict(work.settings, run, judged.verdict, judged.inputs)


def yes_of(inputs: Inputs) -> Verdict:
    """The gate's verdict. Raises StageSkipped where it was a no, which `decide` has recorded."""
    verdict = inputs.noun("decide", Verdict)
    if verdict.decision not in CROWNING:
        raise StageSkipped(f"the decision is {verdict.decision}: the champion stays")
    return verdict


STAGE = Stage(name="promote", version=2, spec=PromoteSpec, function=promote, effects=True)
