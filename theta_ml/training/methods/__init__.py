"""How a recipe's method trains: by which trainer, on what, and with what beside."""

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from theta_ml.champion import Champion
from theta_ml.corpus.prepare import PackedCorpus, open_rows
from theta_ml.stage import StageFailed
from theta_ml.store import Artifact, Store
from theta_ml.training.recipe import Recipe
from theta_ml.training.safe import SafeCheckpoints
from theta_ml.training.start import load_teacher
from theta_ml.training.trainer import ThetaTrainer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from theta_ml.corpus.rows import Rows
    from theta_ml.training.methods.preference import PairRows

FEWEST_PAIRS = 16
"""Fewer teach an accident."""
HELD_OUT = 8
"""Of the training pairs one in so many judges the others, where the validation split has no pair."""


@dataclass(frozen=True)
class Method:
    """What `fit` needs of a method."""

    trainer: type[SafeCheckpoints]
    train: "Rows | PairRows"
    validation: "Rows | PairRows"
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def onlookers(self) -> list["PreTrainedModel"]:
        """Models that are not trained and look at each batch too: a teacher, a reference."""
        return [cast("PreTrainedModel", each) for each in self.extra.values() if isinstance(each, nn.Module)]


def method_of(
    recipe: Recipe,
    model: "PreTrainedModel",
    champion: Champion | None,
    corpus: PackedCorpus,
    packed: Artifact,
    store: Store,
) -> Method:
    """How `model`, which the recipe starts from, is trained on `packed`.

    Raises StageFailed where the recipe's teacher does not suit, or where there are too few pairs to learn from.
    """
    if recipe.method == "preference":
        return _preference(recipe, model, corpus, packed, store)
    train, validation = (open_rows(packed, split, store) for split in ("train", "validation"))
    if recipe.method == "distill":
        from theta_ml.training.methods.distill import TEACHER, DistillTrainer

        extra = {TEACHER: load_teacher(recipe, champion, corpus, store)}
        return Method(DistillTrainer, train, validation, extra)
    return Method(ThetaTrainer, train, validation)


def _preference(
    recipe: Recipe, model: "PreTrainedModel", corpus: PackedCorpus, packed: Artifact, store: Store
) -> Method:
    from peft import PeftModel

    from theta_ml.corpus.pairs import find_pairs
    from theta_ml.training.methods.preference import REFERENCE, TOKENIZER, PairRows, PreferenceTrainer

    train, validation = (find_pairs(packed, split, store) for split in ("train", "validation"))
    if not validation:
        train, validation = [p for n, p in enumerate(train) if n % HELD_OUT], train[::HELD_OUT]
    if len(train) < FEWEST_PAIRS:
        raise StageFailed(
            f"recipe {recipe.name}: the window up to {corpus.month} has {len(train)} pairs to learn from, and "
            f"{FEWEST_PAIRS} are needed. A pair is two conversations that begin with the same words and were answered "
            f"differently, one rated 4 or better and one 2 or worse: gather more feedback, or widen window_months"
        )
    plain = model.get_base_model() if isinstance(model, PeftModel) else model  # new adapters change nothing yet
    extra = {REFERENCE: copy.deepcopy(plain).requires_grad_(False).eval(), TOKENIZER: packed.path / "tokenizer"}
    taught, held_out = (PairRows(pairs, corpus.max_length) for pairs in (train, validation))
    return Method(PreferenceTrainer, taught, held_out, extra)
