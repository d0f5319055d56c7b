"""Stage `evaluate`: champion and candidate scored in one process on the same frozen test conversations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from theta_ml.champion import Champion
from theta_ml.evaluation.comparison import Comparison, Scores
from theta_ml.evaluation.conversations import HeldOut, draw, held_out
from theta_ml.evaluation.report import EvaluationReport as EvaluationReport
from theta_ml.evaluation.smoke import PROMPTS, Reply, judge
from theta_ml.evaluation.thresholds import Thresholds
from theta_ml.landing.snapshot import read_months
from theta_ml.stage import Inputs, Stage, StageFailed, Work
from theta_ml.store import ArtifactMissing, Store

if TYPE_CHECKING:
    from theta_ml.corpus.tokenizer import Message

Scorer = Callable[[Path, "Sequence[list[Message]]"], Sequence[tuple[float, int, int]]]
"""Nats, bytes and tokens of each conversation's assistant text under the model in a folder."""


@dataclass(frozen=True)
class EvaluateSpec:
    """What is compared, on how much."""

    month: str
    """Month of the run."""
    champion: Champion | None = None
    """Model in production; filled in from the registry."""
    max_conversations: int = 400
    """Test conversations scored at most, half of them of this month; 400 of 200 bytes take a tiny model about 5 s."""
    resamples: int = 10_000
    """Of the bootstrap."""
    seed: int = 20260101
    """Of the draw, the bootstrap and the smoke generation."""
    thresholds: Thresholds = field(default_factory=Thresholds)
    """The slices' size and tolerance are taken from here."""

    def __post_init__(self) -> None:
        if self.max_conversations < 2:
            raise ValueError(f"max_conversations is {self.max_conversations}; a comparison needs hundreds")
        if self.resamples < 1000:
            raise ValueError(f"resamples is {self.resamples}; fewer than 1,000 blur a 95 % interval's ends")


def evaluate(spec: EvaluateSpec, inputs: Inputs, work: Work) -> EvaluationReport:
    candidate = inputs.path("train") / "model"
    champion = _champion_model(spec.champion, work.store) if spec.champion else None
    conversations = _conversations(spec, inputs.path("snapshot"))
    work.events.log(
        f"scoring {len(conversations)} test conversations of {len({c.month for c in conversations})} months"
    )
    comparison = compare(spec, conversations, candidate, champion, _scorer(work))
    replies = smoke(candidate, spec.seed) if comparison.candidate.finite else []  # NaN has no likeliest token
    return report(spec, conversations, comparison, replies)


def _scorer(work: Work) -> Scorer:
    from theta_ml.model.scoring import score_conversations

    def score(model: Path, texts: "Sequence[list[Message]]") -> Sequence[tuple[float, int, int]]:
        return score_conversations(model, texts, lambda done, total: work.events.progress(done, total, "tokens"))

    return score


def compare(
    spec: EvaluateSpec,
    conversations: Sequence[HeldOut],
    candidate: Path,
    champion: Path | None,
    score: Scorer,
) -> Comparison:
    """Raises StageFailed where the two were not scored on the same bytes."""
    texts = [conversation.messages for conversation in conversations]
    ours = Scores.of(score(candidate, texts))
    theirs = Scores.of(score(champion, texts)) if champion else None
    try:
        return Comparison(ours, theirs, spec.resamples, spec.seed)
    except ValueError as error:
        raise StageFailed(str(error)) from error


def report(
    spec: EvaluateSpec, conversations: Sequence[HeldOut], comparison: Comparison, replies: list[Reply]
) -> EvaluationReport:
    ours = comparison.candidate.bits_per_byte()
    theirs = comparison.champion.bits_per_byte() if comparison.champion else None
    interval = comparison.interval()
    slices = comparison.slices(conversations, spec.thresholds)
    return EvaluationReport(
        month=spec.month,
        champion_version=spec.champion.version if spec.champion else None,
        champion_month=spec.champion.month if spec.champion else None,
        conversations=len(conversations),
        candidate_bpb=ours,
        champion_bpb=theirs,
        difference=None if ours is None or theirs is None else ours - theirs,
        interval_low=interval.low if interval else None,
        interval_high=interval.high if interval else None,
        perplexity=comparison.candidate.perplexity(),
        months={s.value: s.conversations for s in sorted(slices, key=lambda s: s.value) if s.name == "month"},
        slices=slices,
        smoke=replies,
        smoke_passed=bool(replies) and all(reply.passed for reply in replies),
        finite=comparison.candidate.finite,
    )


def smoke(model_dir: Path, seed: int) -> list[Reply]:
    """The candidate's answers to the fixed prompts, each under a seed of its own."""
    from theta_ml.model.generation import Sampling, generate_reply
    from theta_ml.model.loading import load

    model, tokenizer = load(model_dir)
    replies = []
    for number, prompt in enumerate(PROMPTS):
        sampling = Sampling(max_new_tokens=48, seed=seed + number)
        reply = generate_reply(model, tokenizer, [{"role": "user", "content": prompt}], sampling)
        replies.append(judge(prompt, reply, tokenizer.tokenizer.encode(reply, add_special_tokens=False).ids))
    return replies


def _conversations(spec: EvaluateSpec, snapshot: Path) -> list[HeldOut]:
    drawn = draw(held_out(read_months(snapshot), "test"), spec.month, spec.max_conversations, spec.seed)
    if not drawn:
        raise StageFailed(
            f"the snapshot of {spec.month} has no test conversation in which an assistant speaks; land more of them"
        )
    return drawn


def _champion_model(champion: Champion, store: Store) -> Path:
    try:
        return store.open(champion.uri).path / "model"
    except ArtifactMissing as error:
        raise StageFailed(f"the model of champion version {champion.version} is gone: {error}") from error


STAGE = Stage(name="evaluate", version=1, spec=EvaluateSpec, function=evaluate)
