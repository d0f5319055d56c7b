"""What an evaluation says: candidate against champion on the same frozen conversations.

A number that could not be had is None, which the gate refuses where it asks for that number; a part that the run had
nothing for (no rated replies, no golden set) is None or empty as a whole.
"""

from dataclasses import dataclass, field

from theta_ml.evaluation.comparison import Slice
from theta_ml.evaluation.smoke import Reply


@dataclass(frozen=True)
class Generation:
    """Greedy replies of both models to the same test prompts, against what was really answered."""

    replies: int
    """Prompts, each with a reference."""
    chrf: float
    """chrF of all replies together, 0 to 100 (Popović 2015), by sacrebleu."""
    champion_chrf: float | None = None
    words: float = 0.0
    """Mean length of the candidate's replies."""
    champion_words: float | None = None
    reference_words: float = 0.0


@dataclass(frozen=True)
class Preference:
    """Replies to one prompt of which people liked one and disliked another."""

    pairs: int
    agreement: float
    """Share of the pairs in which the liked reply is likelier per byte under the candidate; 0.5 is chance."""
    champion_agreement: float | None = None


@dataclass(frozen=True)
class GoldenResult:
    """One item of expectations/golden.yaml."""

    name: str
    required: bool
    """Whether the gate refuses a candidate that fails it."""
    passed: bool
    """The candidate's reply held."""
    champion_passed: bool | None = None
    note: str = ""
    """Which checks did not hold; never what was said."""


@dataclass(frozen=True)
class Guardrails:
    """What must not get worse, whatever is gained elsewhere. Of the replies to the same prompts as `Generation`'s and
    the golden set's."""

    replies: int
    """Replies of the candidate that were looked at."""
    toxic_replies: int | None = None
    champion_toxic_replies: int | None = None
    leaked_replies: int | None = None
    """Replies with personal data that the prompt does not hold."""
    champion_leaked_replies: int | None = None
    canaries: int | None = None
    """Canaries in the candidate's training data; 0 where it truly holds none, and then there is no exposure to have;
    None where that cannot be looked up."""
    canary_exposure: float | None = None
    """Bits, the highest of any canary (Carlini et al. 2019, "The Secret Sharer"): log2 of the alternatives less log2
    of the true phrase's rank. Chance gives 1 on the average of a single canary."""
    longest_verbatim: int | None = None
    """Words of the longest run that a reply copies from the training text, beyond what its prompt held; None where
    the training text is gone."""
    latency_ms: float | None = None
    """Median, per generated token, one prompt at a time."""
    champion_latency_ms: float | None = None
    size_bytes: int | None = None
    """Of the model's files."""
    champion_size_bytes: int | None = None


@dataclass(frozen=True)
class EvaluationReport:
    """Bits per byte are of assistant text, over all the conversations."""

    month: str
    champion_version: int | None
    champion_month: str | None
    conversations: int
    candidate_bpb: float | None
    champion_bpb: float | None
    difference: float | None
    """candidate − champion: below zero is better."""
    interval_low: float | None
    interval_high: float | None
    """95 % paired bootstrap interval of the difference."""
    perplexity: float | None
    """The candidate's, per token."""
    months: dict[str, int]
    """Conversations scored of each month."""
    slices: list[Slice]
    smoke: list[Reply]
    smoke_passed: bool
    finite: bool
    """Every conversation of the candidate has a finite loss."""
    p_value: float | None = None
    """Chance that a candidate no better than the champion looks this good (one-sided bootstrap)."""
    resamples: int = 0
    """Of the bootstrap: no p-value is below 1 / (resamples + 1). 0 where there was nothing to compare."""
    champion_perplexity: float | None = None
    """Comparable with the candidate's only where both have the same tokenizer."""
    token_accuracy: float | None = None
    """Share of the tokens of assistant text that are the candidate's likeliest."""
    champion_token_accuracy: float | None = None
    generation: Generation | None = None
    """None where no test conversation has a prompt and a reply, or the model's losses are not finite."""
    preference: Preference | None = None
    """None where no prompt of the test conversations has both a liked and a disliked reply."""
    golden: list[GoldenResult] = field(default_factory=list)
    guardrails: Guardrails | None = None
    """None where the candidate's losses are not finite: it has nothing to say."""
