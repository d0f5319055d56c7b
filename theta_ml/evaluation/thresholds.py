"""What the gate asks of a candidate."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    """Every limit of the gate; bits per byte are of assistant text."""

    min_new_conversations: int = 10
    """Conversations of the month itself; a feed that brings fewer has most likely stopped."""
    max_bits_per_byte: float = 4.6
    """What counting single characters of English text reaches: a model above it has learned nothing of the language."""
    min_test_conversations: int = 20
    """Fewer, and a bootstrap interval says little; the first champion, compared with nobody, is exempt."""
    min_effect: float = 0.02
    """Bits per byte that the whole 95 % interval must be better by; less is not worth a new model in production."""
    slice_conversations: int = 20
    """A slice with fewer test conversations is shown, not judged."""
    slice_tolerance: float = 0.05
    """Bits per byte that a slice may be worse by: a gain elsewhere may cost a little here."""
    slice_alpha: float = 0.05
    """Chance of refusing a candidate none of whose slices is worse, over all slices together (Holm 1979)."""

    def __post_init__(self) -> None:
        if not 0 < self.slice_alpha < 1:
            raise ValueError(f"slice_alpha is a probability, got {self.slice_alpha}; 0.05 is usual")
        if self.min_effect < 0:
            raise ValueError(f"min_effect must not be negative, got {self.min_effect}: a worse model would be promoted")
