"""Stage `select`: of the candidates that a run trained, one for each recipe, the best goes on to the gate.

They are compared on the snapshot's validation conversations: the test conversations are the gate's, and a choice made
on them would flatter whoever is chosen. Bits per byte compare models of different tokenizers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from theta_ml.evaluation.conversations import drawn
from theta_ml.evaluation.selection import Candidate, Selection
from theta_ml.stage import SELECT, Inputs, Stage, StageFailed, Work
from theta_ml.store import Artifact

if TYPE_CHECKING:
    from theta_ml.corpus.tokenizer import Message


@dataclass(frozen=True)
class SelectSpec:
    """On how much the candidates are compared."""

    month: str
    """Month of the run."""
    max_conversations: int = 400
    """Validation conversations scored at most, half of them of this month; a tiny model takes about 5 s for 400."""
    seed: int = 20260101
    """Of the draw."""

    def __post_init__(self) -> None:
        if self.max_conversations < 2:
            raise ValueError(f"max_conversations is {self.max_conversations}; a choice needs hundreds")


def select(spec: SelectSpec, inputs: Inputs, work: Work) -> Selection:
    trained = inputs.several("train")
    if not trained:
        raise StageFailed("no train was given: pass --input URI once for each, as `theta stage train` printed them")
    texts = _conversations(spec, inputs) if len(trained) > 1 else []
    candidates = [_candidate(each, texts, work) for each in trained]
    # Of equals the first, for that is the order in which they were asked for; what has no number comes last.
    winner = min(candidates, key=lambda each: math.inf if each.bits_per_byte is None else each.bits_per_byte)
    said = sentence(candidates, winner, len(texts))
    work.events.log(said)
    return Selection(spec.month, len(texts), candidates, winner.recipe, winner.uri, said)


def sentence(candidates: Sequence[Candidate], winner: Candidate, conversations: int) -> str:
    """For example "scratch is the best of 2: 2.41 bits per byte on 122 validation conversations; continue 2.52."."""
    if len(candidates) == 1:
        return f"{winner.recipe} is the only candidate."
    others = ", ".join(f"{each.recipe} {_number(each)}" for each in candidates if each is not winner)
    return (
        f"{winner.recipe} is the best of {len(candidates)}: {_number(winner)} bits per byte on {conversations:,} "
        f"validation conversations; {others}."
    )


def _number(candidate: Candidate) -> str:
    return "no finite" if candidate.bits_per_byte is None else f"{candidate.bits_per_byte:.3f}"


def _conversations(spec: SelectSpec, inputs: Inputs) -> "list[list[Message]]":
    chosen = drawn(inputs.path("snapshot"), "validation", spec.month, spec.max_conversations, spec.seed)
    if not chosen:
        raise StageFailed(
            f"the snapshot of {spec.month} has no validation conversation in which an assistant speaks, and several "
            "candidates to choose from; land more of them, or train one recipe"
        )
    return [conversation.messages for conversation in chosen]


def _candidate(trained: Artifact, texts: "Sequence[list[Message]]", work: Work) -> Candidate:
    model = trained.document["value"]
    recipe = str(model["recipe"])
    number = _bits_per_byte(trained, recipe, texts, work) if texts else None
    return Candidate(recipe, trained.uri, trained.key, int(model["parameters"]), number)


def _bits_per_byte(trained: Artifact, recipe: str, texts: "Sequence[list[Message]]", work: Work) -> float | None:
    from theta_ml.evaluation.comparison import Scores
    from theta_ml.model.scoring import score_conversations

    work.events.log(f"scoring {recipe} on {len(texts)} validation conversations")
    try:
        rows = score_conversations(
            trained.path / "model", texts, lambda done, total: work.events.progress(done, total, "tokens", recipe)
        )
    except (OSError, ValueError) as error:  # the others may still be chosen from
        work.events.log(f"{recipe} cannot be scored: {error}")
        return None
    return Scores.of(rows).bits_per_byte()


STAGE = Stage(name=SELECT, version=1, spec=SelectSpec, function=select)
