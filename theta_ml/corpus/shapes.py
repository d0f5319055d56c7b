"""What a preset means for the corpus. `theta_ml.training.presets` says what it means for the model and its training."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CorpusShape:
    """How conversations become rows of tokens."""

    vocabulary: int
    """Most tokens that a new tokenizer learns; a champion's descendants keep its tokenizer."""
    max_length: int
    """Tokens in a row, and the model's context."""

    def __post_init__(self) -> None:
        if not 512 <= self.vocabulary <= 65_536:
            raise ValueError(
                f"vocabulary is {self.vocabulary}: choose 512 (bytes and control tokens) to 65536 (uint16)"
            )
        if not 32 <= self.max_length <= 65_536:
            raise ValueError(f"max_length is {self.max_length}: choose 32 to 65536")


SHAPES = {
    "tiny": CorpusShape(vocabulary=2048, max_length=256),
    "base": CorpusShape(vocabulary=16_384, max_length=1024),
}


def corpus_shape(preset: str) -> CorpusShape:
    """Raises ValueError that names the presets there are."""
    if preset not in SHAPES:
        raise ValueError(f"no preset {preset!r}: choose {' or '.join(SHAPES)}")
    return SHAPES[preset]
