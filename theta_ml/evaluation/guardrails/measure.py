"""All guardrails of an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from theta_ml.evaluation.guardrails import canaries, latency
from theta_ml.evaluation.guardrails.leaks import leaked
from theta_ml.evaluation.guardrails.toxic import toxic
from theta_ml.evaluation.guardrails.verbatim import Copied, longest_copy
from theta_ml.evaluation.replies import Prompt
from theta_ml.evaluation.report import Guardrails
from theta_ml.store import Artifact, ArtifactMissing

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from theta_ml.corpus.tokenizer import ChatTokenizer
    from theta_ml.stage import Work


@dataclass(frozen=True)
class Model:
    """One of the two, loaded, and what it answered to the prompts; no answers where its losses are not finite."""

    folder: Path
    model: "PreTrainedModel"
    tokenizer: "ChatTokenizer"
    replies: list[str] | None = None

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


def measure(
    prompts: Sequence[Prompt], candidate: Model, champion: Model | None, corpus: Artifact | None, work: "Work"
) -> Guardrails:
    """`corpus` is what the candidate was trained on (`prepare`), where that is known. The candidate has replies."""
    assert candidate.replies is not None
    theirs = champion.replies if champion else None
    seconds = latency.seconds_per_token([candidate, *([champion] if champion and theirs else [])])
    planted = _planted(corpus, work)
    return Guardrails(
        replies=len(candidate.replies),
        toxic_replies=toxic(candidate.replies),
        champion_toxic_replies=None if theirs is None else toxic(theirs),
        leaked_replies=leaked(prompts, candidate.replies),
        champion_leaked_replies=None if theirs is None else leaked(prompts, theirs),
        canaries=None if planted is None else len(planted),
        canary_exposure=canaries.exposure(candidate.model, candidate.tokenizer, planted or []),
        longest_verbatim=_copied(prompts, candidate, corpus, work),
        latency_ms=1000 * seconds[0],
        champion_latency_ms=1000 * seconds[1] if len(seconds) > 1 else None,
        size_bytes=candidate.size,
        champion_size_bytes=champion.size if champion else None,
    )


def _planted(corpus: Artifact | None, work: "Work") -> list[str] | None:
    """None where nobody knows: without the corpus, or where what it was packed from is gone."""
    if corpus is None:
        return None
    try:
        return canaries.planted(corpus, work.store)
    except ArtifactMissing as error:
        work.events.log(f"the canaries of the training text are gone, so nothing is known of their exposure: {error}")
        return None


def _copied(prompts: Sequence[Prompt], candidate: Model, corpus: Artifact | None, work: "Work") -> int | None:
    assert candidate.replies is not None
    if corpus is None:
        work.events.log("no training corpus was given, so nothing is known of what replies copy from it")
        return None
    copied = [Copied(prompt.messages, reply) for prompt, reply in zip(prompts, candidate.replies, strict=True)]
    try:
        return longest_copy(copied, corpus, work.store)
    except ArtifactMissing as error:
        work.events.log(f"the training text is gone, so nothing is known of what replies copy from it: {error}")
        return None
