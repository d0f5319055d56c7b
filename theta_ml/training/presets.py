"""What a preset means for the model and its training; `theta_ml.corpus.shapes` says what it means for the corpus."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from theta_ml.corpus.tokenizer import ChatTokenizer


@dataclass(frozen=True)
class ModelShape:
    """Size of the decoder."""

    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    """Width of the SwiGLU; 8/3 of hidden_size gives it the parameters of a plain block of 4."""
    dropout: float = 0.2
    """On embeddings and residuals; none on attention."""
    key_value_heads: int | None = None
    """Fewer than the heads: groups of them share keys and values, for a smaller cache. None: as many."""
    qk_norm: bool = False
    """Normalise queries and keys."""

    def __post_init__(self) -> None:
        if self.key_value_heads is not None and self.heads % self.key_value_heads:
            raise ValueError(
                f"{self.heads} heads cannot share {self.key_value_heads} key-value heads: choose a divisor of heads"
            )
        if self.hidden_size % self.heads or self.hidden_size // self.heads % 2:
            raise ValueError(
                f"hidden_size {self.hidden_size} over {self.heads} heads: choose heads so that each has an even width "
                f"(rotary positions turn pairs)"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}: choose 0 to less than 1")

    def config(self, tokenizer: "ChatTokenizer", max_length: int) -> dict[str, Any]:
        """Arguments of ThetaConfig."""
        return {
            "vocab_size": tokenizer.vocabulary,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_value_heads,
            "qk_norm": self.qk_norm,
            "max_position_embeddings": max_length,
            "dropout": self.dropout,
            "pad_token_id": tokenizer.pad,
            "bos_token_id": tokenizer.begin,
            "eos_token_id": tokenizer.end,
        }


@dataclass(frozen=True)
class Hyper:
    """Hyper-parameters: how a preset is trained."""

    rows_per_step: int
    """Rows behind one optimizer step."""
    rows_at_once: int
    """Most rows that go through the model together, where memory holds so many; the rest of a step is accumulated."""
    epochs: int
    """Most passes over the corpus."""
    max_steps: int
    """Fewer passes where they would take more steps than this."""
    rate_scratch: float
    """Peak learning rate from random weights."""
    rate_champion: float
    """Peak learning rate from a champion's weights."""
    rate_base: float = 5e-5
    """Peak learning rate from the weights of a base model, which learned elsewhere."""
    warmup: float = 0.15
    """Share of the steps over which the rate rises; it then falls to 0 by a cosine."""
    weight_decay: float = 0.01
    """Of matrices; norms have none."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    validation_rows: int = 512
    """Most rows of the validation split that each epoch is judged on."""
    dropout_passes: float = 5.0
    """Where the corpus is passed over no more often than this nothing is dropped: what is seen so seldom is not learned
    by heart, and dropout would only slow it down (docs/LOG.md has the validation losses)."""
    checkpoint_seconds: float = 60.0
    """Most work that a crash may cost."""
    compile: bool = True
    """Compile the backbone where the training is long enough for that to pay."""
    gradient_checkpointing: bool = False
    """Compute activations inside the blocks again rather than keep them: less memory, a quarter more time."""
    patience: int | None = 6
    """Validations without a better loss after which training ends; None: never."""
    validate_steps: int | None = None
    """Steps between validations; None: each epoch."""

    def __post_init__(self) -> None:
        for name in ("rows_per_step", "rows_at_once", "validation_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: choose at least 1")
        for name in ("rate_scratch", "rate_champion", "rate_base", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: choose more than 0")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay is {self.weight_decay}: choose 0 or more")
        if self.rows_per_step % self.rows_at_once:
            raise ValueError(
                f"rows_per_step {self.rows_per_step} is no multiple of rows_at_once {self.rows_at_once}: "
                f"choose rows_at_once as a divisor"
            )
        if self.epochs < 1 or self.max_steps < 1:
            raise ValueError(f"epochs {self.epochs} and max_steps {self.max_steps}: choose at least 1 of each")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is {self.warmup}: choose a share of the steps, for example 0.15")
        for name in ("patience", "validate_steps"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} is {value}: choose at least 1, or leave it out")

    def changed(self, overrides: Mapping[str, Any]) -> "Hyper":
        """These with some of them replaced. Raises ValueError naming a field there is none of, and those there are."""
        known = [field.name for field in fields(self)]
        unknown = sorted(set(overrides) - set(known))
        if unknown:
            raise ValueError(f"no hyper-parameter {', '.join(unknown)}: choose among {', '.join(known)}")
        return replace(self, **overrides)


@dataclass(frozen=True)
class Preset:
    """A model and how it is trained."""

    name: str
    shape: ModelShape
    hyper: Hyper


TINY = Preset(
    "tiny",
    ModelShape(hidden_size=192, layers=3, heads=3, intermediate_size=512),
    Hyper(
        rows_per_step=4,  # many small steps: for the same tokens, half the validation loss that 8 rows come to
        rows_at_once=4,
        epochs=20,
        max_steps=560,
        rate_scratch=3e-3,
        rate_champion=1e-3,
        validation_rows=48,
        checkpoint_seconds=5.0,
    ),
)
BASE = Preset(
    "base",
    ModelShape(hidden_size=768, layers=12, heads=12, intermediate_size=2048),
    Hyper(
        rows_per_step=64,
        rows_at_once=64,
        epochs=3,
        max_steps=20_000,
        rate_scratch=6e-4,
        rate_champion=5e-5,
    ),
)
PRESETS = {preset.name: preset for preset in (TINY, BASE)}


def find_preset(name: str) -> Preset:
    """Raises ValueError that names the presets there are."""
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}: choose {' or '.join(PRESETS)}")
    return PRESETS[name]
