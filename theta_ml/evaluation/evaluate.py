"""Stage `evaluate`: champion and candidate measured in one process, on the same frozen test conversations."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from theta_ml.champion import Champion
from theta_ml.evaluation import golden
from theta_ml.evaluation.comparison import SLICES, Comparison, Scores
from theta_ml.evaluation.conversations import HeldOut, draw, drawn
from theta_ml.evaluation.report import EvaluationReport, Preference
from theta_ml.evaluation.smoke import PROMPTS, Reply, judge
from theta_ml.evaluation.thresholds import SliceLimits, read_thresholds
from theta_ml.privacy import redaction
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, Stage, StageFailed, Work

if TYPE_CHECKING:
    from theta_ml.evaluation.guardrails import Model
    from theta_ml.evaluation.replies import Prompt

SCORES = "scores.parquet"
"""Of the artifact: a conversation's slices, bytes, and nats, tokens and correct tokens of both models, in the order in
which conversations were drawn. Nothing tells which conversation it is: that would outlive its erasure here."""
FEWEST_RESAMPLES = 10_000
"""No p-value is below 1 / (resamples + 1): with so many, the correction for 500 slices still leaves one below 0.05, and
1,000 conversations make 300 slices of 20 at most."""


@dataclass(frozen=True)
class EvaluateSpec:
    """What is compared, on how much."""

    month: str
    """Month of the run."""
    champion: Champion | None = None
    """Model in production; filled in from the registry."""
    max_conversations: int = 1000
    """Test conversations scored at most, half of them of this month: on so many `theta bench decisions` measures how
    often the gate is right. 1,000 of 200 bytes take a tiny model about 13 s."""
    replies: int = 40
    """Of those conversations, so many are answered by both models, half of them of this month."""
    reply_tokens: int = 64
    """Length of an answer at most: what counts as memorised is 50 tokens long (Carlini et al. 2022)."""
    pairs: int = 400
    """Pairs of a liked and a disliked reply that are compared at most."""
    resamples: int = FEWEST_RESAMPLES
    """Of the bootstrap, at least."""
    seed: int = 20260101
    """Of the draw, the bootstrap and the smoke generation."""
    slices: SliceLimits = field(default_factory=SliceLimits)
    """Which slices are judged, and by what; filled in from the gate's thresholds."""
    golden: str = ""
    """Digest of expectations/golden.yaml; filled in, so that an edit asks anew."""

    def __post_init__(self) -> None:
        if self.max_conversations < 2:
            raise ValueError(f"max_conversations is {self.max_conversations}; a comparison needs hundreds")
        if self.replies < 1 or self.reply_tokens < 8:
            raise ValueError(
                f"replies is {self.replies}, reply_tokens {self.reply_tokens}; a candidate must answer at least one "
                "prompt, in 8 tokens or more"
            )
        if self.resamples < FEWEST_RESAMPLES:
            raise ValueError(
                f"resamples is {self.resamples}; of fewer than {FEWEST_RESAMPLES:,} no p-value can be low enough once "
                "it is corrected for all slices"
            )


def resolve(spec: EvaluateSpec, inputs: Inputs, settings: Settings, run_id: str) -> EvaluateSpec:
    """Fills in what engineers own."""
    limits = read_thresholds(settings).slices if spec.slices == SliceLimits() else spec.slices
    return replace(spec, golden=golden.digest(golden.load(golden.PATH)), slices=limits)


def evaluate(spec: EvaluateSpec, inputs: Inputs, work: Work) -> EvaluationReport:
    conversations = _conversations(spec, inputs.path("snapshot"))
    candidate = _open(inputs.path("train") / "model")
    champion = _open(spec.champion.model(work.store)) if spec.champion else None
    work.events.log(
        f"scoring {len(conversations)} test conversations of {len({c.month for c in conversations})} months"
    )
    comparison = _compare(spec, conversations, candidate, champion, work)
    _write_scores(conversations, comparison, work.path / SCORES)
    report = scored(spec, conversations, comparison)
    if not report.finite:  # NaN has no likeliest token: such a model has nothing to say
        return replace(report, golden=golden.judge(golden.load(golden.PATH), None, None))
    broken = comparison.champion is not None and not comparison.champion.finite
    return _spoken(report, spec, inputs, candidate, None if broken else champion, conversations, work)


def _compare(
    spec: EvaluateSpec, conversations: Sequence[HeldOut], candidate: "Model", champion: "Model | None", work: Work
) -> Comparison:
    from theta_ml.model.scoring import score

    def scores(model: "Model") -> Scores:
        messages = [conversation.messages for conversation in conversations]
        heard = work.events.progress
        return Scores.of(score(model.model, model.tokenizer, messages, lambda done, all_: heard(done, all_, "tokens")))

    try:
        return Comparison(scores(candidate), scores(champion) if champion else None, spec.resamples, spec.seed)
    except ValueError as error:
        raise StageFailed(str(error)) from error


def scored(spec: EvaluateSpec, conversations: Sequence[HeldOut], comparison: Comparison) -> EvaluationReport:
    """The part of the report that the scores give."""
    candidate, champion = comparison.candidate, comparison.champion
    ours, theirs = candidate.bits_per_byte(), champion.bits_per_byte() if champion else None
    interval = comparison.interval()
    slices = comparison.slices(conversations, spec.slices)
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
        p_value=comparison.p_value(),
        resamples=spec.resamples if interval else 0,
        perplexity=candidate.perplexity(),
        champion_perplexity=champion.perplexity() if champion else None,
        token_accuracy=candidate.token_accuracy(),
        champion_token_accuracy=champion.token_accuracy() if champion else None,
        months={s.value: s.conversations for s in sorted(slices, key=lambda s: s.value) if s.name == "month"},
        slices=slices,
        smoke=[],
        smoke_passed=False,
        finite=candidate.finite,
    )


def _spoken(
    report: EvaluationReport,
    spec: EvaluateSpec,
    inputs: Inputs,
    candidate: "Model",
    champion: "Model | None",
    conversations: Sequence[HeldOut],
    work: Work,
) -> EvaluationReport:
    """The report with what the models say: a candidate that can speak, and a champion, if there is one that can."""
    from theta_ml.evaluation.guardrails import measure
    from theta_ml.evaluation.replies import generation

    items = golden.load(golden.PATH)
    every = _prompts(spec, conversations, items)
    candidate = _answered(candidate, every, spec, work)
    champion = _answered(champion, every, spec, work) if champion else None
    ours, theirs = candidate.replies or [], champion.replies if champion else None
    smoke, first = _smoke(candidate, spec.seed), len(every) - len(items)
    return replace(
        report,
        smoke=smoke,
        smoke_passed=all(reply.passed for reply in smoke),
        generation=generation(every, ours, theirs),
        preference=_preference(inputs.path("snapshot"), spec.pairs, candidate, champion),
        golden=golden.judge(items, ours[first:], theirs[first:] if theirs else None),
        guardrails=measure(every, candidate, champion, inputs.get("prepare"), work),
    )


def _prompts(spec: EvaluateSpec, conversations: Sequence[HeldOut], items: Sequence[golden.Item]) -> "list[Prompt]":
    """Those of test conversations, then the golden set's."""
    from theta_ml.evaluation.replies import Prompt, prompts

    asked = prompts(draw(conversations, spec.month, spec.replies, spec.seed))
    return [*asked, *(Prompt([{"role": m.role, "content": m.content} for m in item.messages]) for item in items)]


def _preference(snapshot: Path, most: int, candidate: "Model", champion: "Model | None") -> "Preference | None":
    from theta_ml.evaluation.preference import preference, rated_pairs

    theirs = (champion.model, champion.tokenizer) if champion else None
    return preference(rated_pairs(snapshot, most), (candidate.model, candidate.tokenizer), theirs)


def _open(folder: Path) -> "Model":
    from theta_ml.evaluation.guardrails import Model
    from theta_ml.model.loading import load

    return Model(folder, *load(folder))


def _answered(model: "Model", asked: "Sequence[Prompt]", spec: EvaluateSpec, work: Work) -> "Model":
    from theta_ml.evaluation.replies import reply

    work.events.log(f"asking {model.folder.parent.name[:12]} {len(asked)} prompts")
    return replace(model, replies=reply(model.model, model.tokenizer, asked, spec.reply_tokens))


def _smoke(model: "Model", seed: int) -> list[Reply]:
    """The candidate's answers to the fixed prompts, each under a seed of its own."""
    from theta_ml.model.generation import Sampling, generate_reply

    replies = []
    for number, prompt in enumerate(PROMPTS):
        sampling = Sampling(max_new_tokens=48, seed=seed + number)
        reply = generate_reply(model.model, model.tokenizer, [{"role": "user", "content": prompt}], sampling)
        tokens = model.tokenizer.tokenizer.encode(reply, add_special_tokens=False).ids
        replies.append(judge(prompt, reply, tokens))
    return replies


def _write_scores(conversations: Sequence[HeldOut], comparison: Comparison, path: Path) -> None:
    """One row a conversation, in the order they were drawn; the champion's columns are null where there is none."""
    import polars as pl

    slices = {name: [conversation.slice(name) for conversation in conversations] for name in SLICES}
    none = [None] * len(conversations)
    numbers = {"bytes": pl.Series(comparison.candidate.byte_counts, dtype=pl.Float64)}
    for who, scores in (("candidate", comparison.candidate), ("champion", comparison.champion)):
        for name in ("nats", "tokens", "correct"):
            values = none if scores is None else getattr(scores, name)
            numbers[f"{who}_{name}"] = pl.Series(values, dtype=pl.Float64)
    pl.DataFrame({**slices, **numbers}).write_parquet(path)


def _conversations(spec: EvaluateSpec, snapshot: Path) -> list[HeldOut]:
    chosen = drawn(snapshot, "test", spec.month, spec.max_conversations, spec.seed)
    if not chosen:
        raise StageFailed(
            f"the snapshot of {spec.month} has no test conversation in which an assistant speaks; land more of them"
        )
    return chosen


STAGE = Stage("evaluate", 300 + redaction.VERSION, EvaluateSpec, evaluate, resolve)
