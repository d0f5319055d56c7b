"""Where the models of `theta bench decisions` meet: draws of real conversations, the real evaluation, the real gate."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from theta_ml.bench.decisions_work import MONTHS
from theta_ml.champion import Champion
from theta_ml.evaluation.bootstrap import Vector
from theta_ml.evaluation.comparison import Comparison, Scores
from theta_ml.evaluation.conversations import HeldOut
from theta_ml.evaluation.evaluate import EvaluateSpec, scored
from theta_ml.evaluation.gate import Evidence, Preflight, gate
from theta_ml.evaluation.report import EvaluationReport, Guardrails
from theta_ml.evaluation.thresholds import Thresholds
from theta_ml.evaluation.verdict import Verdict

CONVERSATIONS = EvaluateSpec.max_conversations
"""Drawn for each decision, with replacement: the pool then stands for all there are, and true differences are its."""
_CHAMPION = Champion(1, MONTHS[-1], "bench", "bench")


class Known(HeldOut):
    """A conversation whose style is found once, not once for each decision."""

    @cached_property
    def style(self) -> str:
        return super().style


@dataclass(frozen=True)
class Model:
    """What a model made of the whole pool."""

    scores: Scores

    @property
    def bits_per_byte(self) -> float:
        found = self.scores.bits_per_byte()
        assert found is not None, "a model of the benchmark has no finite loss"
        return found

    def worse(self, where: NDArray[np.intp], than: "Model", by: float) -> "Model":
        """Itself, the nats of the conversations `where` scaled so that there it loses to another by so many bits per
        byte."""
        ours, theirs = self.scores.bits_per_byte(where), than.scores.bits_per_byte(where)
        assert ours is not None and theirs is not None, "a model of the benchmark has no finite loss"
        nats = self.scores.nats.copy()
        nats[where] *= (theirs + by) / ours
        return Model(replace(self.scores, nats=nats))


@dataclass(frozen=True)
class Pair:
    """Who stands against whom, and which draw of conversations decides."""

    champion: Model
    candidate: Model
    seed: int

    @property
    def true_difference(self) -> float:
        """Over the whole pool, as a share of the champion's; below zero is better."""
        return self.candidate.bits_per_byte / self.champion.bits_per_byte - 1


@dataclass(frozen=True)
class Decision:
    """What the gate and the peer made of a pair."""

    verdict: Verdict
    peer_promotes: bool

    @property
    def promotes(self) -> bool:
        return self.verdict.decision == "promoted"

    @property
    def failed(self) -> set[str]:
        return {check.name for check in self.verdict.checks if not check.passed}


def read(path: Path, conversations: Sequence[HeldOut]) -> Scores:
    """Scores of the whole pool, in its order. Raises ClickException where they are of another pool."""
    import polars as pl

    found = pl.read_parquet(path)
    if found["conversation_id"].to_list() != [each.conversation_id for each in conversations]:
        raise click.ClickException(f"{path} holds scores of other conversations: remove it, it is made anew")
    return Scores(*(found[name].to_numpy().astype(np.float64) for name in ("nats", "bytes", "tokens", "correct")))


def pairs(champions: Sequence[Model], candidates: Sequence[Model], draws: int) -> Iterator[Pair]:
    """All ordered pairs of two different models, each with some draws of its own."""
    wanted = [(ours, theirs) for theirs in champions for ours in candidates if ours is not theirs]
    for number, (candidate, champion) in enumerate(wanted):
        yield from (Pair(champion, candidate, number * draws + draw) for draw in range(draws))


@dataclass(frozen=True)
class Arena:
    """Where pairs meet: the pool of conversations."""

    conversations: Sequence[HeldOut]
    thresholds: Thresholds

    def decide(self, name: str, wanted: Sequence[Pair]) -> list[Decision]:
        if not wanted:
            raise click.ClickException(
                f"no pair of models is {name}: change the steps of the groups in theta_ml.bench.decisions"
            )
        with click.progressbar(wanted, label=f"{len(wanted)} decisions, {name}", file=sys.stderr) as bar:
            return [self._decision(pair) for pair in bar]

    def margins(self, wanted: Sequence[Pair]) -> Vector:
        """(pairs,) share of the champion's bits per byte by which the whole interval is better; below zero where it is
        not.

        What the gate compares with `min_effect`, without its other points: all that is promoted has a larger one.
        """
        found = [self._met(pair)[1] for pair in wanted]
        return np.array([-_high(each) / _champion_of(each) for each in found])

    def _met(self, pair: Pair) -> tuple[NDArray[np.intp], Comparison]:
        drawn = np.random.default_rng(pair.seed).integers(len(self.conversations), size=CONVERSATIONS)
        candidate, champion = (_some(model.scores, drawn) for model in (pair.candidate, pair.champion))
        return drawn, Comparison(candidate, champion, EvaluateSpec.resamples, pair.seed)

    def _decision(self, pair: Pair) -> Decision:
        """Through the real evaluation and the real gate, on a draw of the pool."""
        spec = EvaluateSpec(MONTHS[-1], _CHAMPION, slices=self.thresholds.slices)
        drawn, comparison = self._met(pair)
        report = scored(spec, [self.conversations[each] for each in drawn], comparison)
        report = replace(report, smoke_passed=True, guardrails=_EVEN)
        assert report.difference is not None
        return Decision(gate(_evidence(report, self.thresholds)), report.difference < 0)


def _high(met: Comparison) -> float:
    found = met.interval()
    assert found is not None, "a model of the benchmark has no finite loss"
    return found.high


def _champion_of(met: Comparison) -> float:
    found = met.champion.bits_per_byte() if met.champion else None
    assert found is not None, "a model of the benchmark has no finite loss"
    return found


def _some(scores: Scores, where: Any) -> Scores:
    return Scores(scores.nats[where], scores.byte_counts[where], scores.tokens[where], scores.correct[where])


_EVEN = Guardrails(
    replies=50, toxic_replies=0, champion_toxic_replies=0, leaked_replies=0, champion_leaked_replies=0,
    canaries=0, longest_verbatim=0, latency_ms=1.0, champion_latency_ms=1.0, size_bytes=1, champion_size_bytes=1,
)  # fmt: skip


def _evidence(report: EvaluationReport, thresholds: Thresholds) -> Evidence:
    from theta_ml.landing.snapshot import Snapshot
    from theta_ml.quality.comparing import DriftReport
    from theta_ml.quality.validate import ValidationReport

    month = report.month
    return Evidence(
        month=month,
        champion_version=_CHAMPION.version,
        champion_month=_CHAMPION.month,
        snapshot=Snapshot(month, "", [month], CONVERSATIONS, CONVERSATIONS, 0, 0, {}, {}, {}, ""),
        validation=ValidationReport(month, True, "as expected", []),
        drift=DriftReport(month, MONTHS[0], "stable", "nothing moved", 0.0, [], [], {}),
        preflight=Preflight(True, "it learns"),
        evaluation=report,
        thresholds=thresholds,
    )
