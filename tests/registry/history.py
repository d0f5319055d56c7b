"""A year of retrainings through the real ledger and a real MLflow, and what the ledger has to say of it.

Only the measuring is scripted: each month's data are sound or not, and each model is as good as its file says.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from threading import Barrier

from tests.registry.pipeline import Pipeline
from theta_ml.evaluation.thresholds import Thresholds
from theta_ml.registry import by_hand
from theta_ml.registry.champion import KEY, versions
from theta_ml.registry.ledger import CROWNING, Entry
from theta_ml.stage import StageSkipped
from theta_ml.store import Artifact

HALF_WIDTH = 0.01
"""Of the scripted interval."""


@dataclass(frozen=True)
class Run:
    month: str
    run_id: str
    bits_per_byte: float = 2.0
    speaks: bool = True
    sound: bool = True

    @property
    def mark(self) -> str:
        """Of its model: runs of one month and one quality train the same."""
        return f"{self.month} at {self.bits_per_byte:g}"


@dataclass(frozen=True)
class Row:
    """What the ledger has to say of one run, versions told by their model's mark."""

    month: str
    decision: str
    candidate: str | None
    before: str | None
    after: str | None


@dataclass
class Oracle:
    """The gate's rules in a few lines, for one run after another."""

    line: list[Run] = field(default_factory=list)
    held: bool = False

    @property
    def champion(self) -> Run | None:
        return self.line[-1] if self.line else None

    def decide(self, run: Run) -> Row:
        before = self.champion
        decision = self._decision(run, before)
        if decision in CROWNING:
            self.line.append(run)
        return self._row(run.month, decision, run if run.sound else None, before)

    def roll_back(self) -> Row:
        before = self.line.pop()
        self.held = True
        assert self.champion
        return self._row(self.champion.month, "rolled_back", self.champion, before)

    def _decision(self, run: Run, champion: Run | None) -> str:
        if not run.sound:
            return "blocked"
        if champion and (run.month < champion.month or self.held):
            return "evaluated"
        if not run.speaks:
            return "rejected"
        if champion is None:
            return "bootstrap"
        worst = run.bits_per_byte - champion.bits_per_byte + HALF_WIDTH
        return "promoted" if worst < -Thresholds().effect(champion.bits_per_byte) else "rejected"

    def _row(self, month: str, decision: str, candidate: Run | None, before: Run | None) -> Row:
        after = self.champion
        return Row(month, decision, *(run.mark if run else None for run in (candidate, before, after)))


@dataclass
class Clock:
    """The database's, as far as holds ask for it."""

    now: datetime = datetime(2027, 1, 1, tzinfo=UTC)

    def __call__(self, connection: object) -> datetime:
        return self.now


@dataclass
class History:
    """Runs, and what the ledger says of them."""

    pipeline: Pipeline
    clock: Clock
    runs: dict[str, Run] = field(default_factory=dict)
    uris: dict[str, list[str]] = field(default_factory=dict)
    decided: dict[str, Artifact] = field(default_factory=dict)
    expired: int | None = None
    """How many rows there were when the hold ended."""

    def whole(self, run: Run) -> None:
        self.measure(run)
        self.conclude(run)

    def measure(self, run: Run) -> None:
        """Everything up to the gate."""
        self.runs[run.run_id] = run
        if run.sound:
            measured = self.pipeline.measured(run.month, run.run_id, run.mark, run.bits_per_byte, run.speaks)
            self.uris[run.run_id] = measured
        else:
            self.uris[run.run_id] = self.pipeline.data(run.month, passed=False)

    def conclude(self, run: Run) -> None:
        self.decide(run)
        self.promote(run)

    def decide(self, run: Run) -> None:
        uris = self.uris[run.run_id]
        self.decided[run.run_id] = self.pipeline.decide(run.month, run.run_id, uris, bootstrap=True)

    def promote(self, run: Run) -> None:
        with suppress(StageSkipped):  # as Airflow skips it: the gate's no is in the ledger
            self.pipeline.promote(run.month, run.run_id, self.uris[run.run_id], self.decided[run.run_id])

    def rerun(self, run: Run) -> None:
        """Its tasks are cleared, from the evaluation on."""
        self.whole(run)

    def roll_back(self, days: float) -> None:
        until = self.clock.now + timedelta(days=days)
        by_hand.roll_back(self.pipeline.settings, by_hand.Word("an engineer", "it answers in French", until))

    def expire(self) -> None:
        self.clock.now += timedelta(days=365)
        self.expired = len(self.pipeline.ledger)

    def rows(self) -> Iterator[tuple[Entry, Row]]:
        """As the ledger has them, oldest first."""
        marks = self._marks()
        for entry in self.pipeline.ledger:
            named = (entry.candidate_version, entry.champion_before, entry.champion_after)
            yield entry, Row(entry.month, entry.decision, *(marks[n] if n else None for n in named))

    def expected(self) -> Iterator[Row]:
        """What the rules give for the same runs, one after the other in the ledger's order."""
        oracle = Oracle()
        for number, entry in enumerate(self.pipeline.ledger):
            oracle.held = oracle.held and (self.expired is None or number < self.expired)
            yield oracle.roll_back() if entry.decision == "rolled_back" else oracle.decide(self.runs[entry.run_id])

    def _marks(self) -> dict[int, str]:
        store = self.pipeline.store
        there = versions(self.pipeline.settings)
        documents = {int(each.version): store.document(store.uri("train", each.tags[KEY])) for each in there}
        return {version: document["spec"]["mark"] for version, document in documents.items() if document}


def at_once(*works: Callable[[], None]) -> None:
    """All of them, let go in the same moment."""
    start = Barrier(len(works))

    def go(work: Callable[[], None]) -> None:
        start.wait()
        work()

    with ThreadPoolExecutor(len(works)) as pool:
        for done in [pool.submit(go, work) for work in works]:
            done.result()


def again(run: Run, name: str) -> Run:
    """Another run of the same month, which trains the same model."""
    return replace(run, run_id=f"{run.run_id}-{name}")
