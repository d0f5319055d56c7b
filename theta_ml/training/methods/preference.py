"""Preference training: of two answers to the same words, the one that people liked becomes likelier than the other."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import datasets
import torch
from transformers import AutoTokenizer
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from theta_ml.corpus.pairs import Pair
from theta_ml.training.safe import SafeCheckpoints, Safety
from theta_ml.training.stop import look
from theta_ml.training.trainer import arguments, callbacks_of

if TYPE_CHECKING:
    from theta_ml.training.fit import Fit

REFERENCE, TOKENIZER = "reference", "tokenizer"
"""Names of what the method needs beside: the model as it started, and the folder of its tokenizer."""
BETA = 0.1
"""How dearly moving away from the reference is paid for (Rafailov et al. 2023, arXiv:2305.18290)."""

TOLD = {"rewards/accuracies": "preference_accuracy", "rewards/margins": "preference_margin"}
"""TRL's names of what is told beside the loss, and ours."""


@dataclass(frozen=True)
class PairRows:
    """Pairs in the place of packed rows: a step's rows are pairs."""

    pairs: list[Pair]
    max_length: int
    """Tokens of prompt and answer that the model can take."""

    @property
    def count(self) -> int:
        return len(self.pairs)

    @property
    def tokens(self) -> float:
        """Of a pair, on average; the prompt is read with each answer."""
        return sum(2 * len(p.prompt) + len(p.chosen) + len(p.rejected) for p in self.pairs) / len(self.pairs)

    def dataset(self, most: int | None = None) -> datasets.Dataset:
        """As TRL's collator wants them. A prompt that is too long loses its start, but for `<|begin|>`."""
        return datasets.Dataset.from_list([self._fitted(pair) for pair in self.pairs[:most]])

    def _fitted(self, pair: Pair) -> dict[str, list[int]]:
        room = max(2, self.max_length - max(len(pair.chosen), len(pair.rejected)))
        prompt = pair.prompt if len(pair.prompt) <= room else [pair.prompt[0], *pair.prompt[1 - room :]]
        return {"prompt_ids": prompt, "chosen_ids": pair.chosen, "rejected_ids": pair.rejected}


class PreferenceTrainer(SafeCheckpoints, DPOTrainer):
    """TRL's DPO on pairs that are tokens already: text that looks like a control token stays text.

    Never compiled: pairs have no one shape.
    """

    pairs: PairRows

    @classmethod
    def of(cls, work: "Fit", safety: Safety) -> Self:
        """Needs `work.extra[REFERENCE]` and `[TOKENIZER]`, and PairRows as rows."""
        train, held_out = work.train, work.validation
        assert isinstance(train, PairRows) and isinstance(held_out, PairRows)
        trainer = cls(
            model=work.model,
            ref_model=work.extra[REFERENCE],
            args=arguments(work, safety, DPOConfig, beta=BETA, max_length=train.max_length),
            train_dataset=train.dataset(),
            eval_dataset=held_out.dataset(work.hyper.validation_rows),
            processing_class=AutoTokenizer.from_pretrained(Path(work.extra[TOKENIZER]), local_files_only=True),
            callbacks=callbacks_of(work),
        )
        trainer.make_safe(safety)
        trainer.pairs = train
        return trainer

    def tokens_of(self, first: int, last: int) -> int:
        plan, rows = self.safety.plan, self.pairs
        return round((plan.rows_before(last) - plan.rows_before(first)) * rows.tokens)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Beside the loss, how often the liked answer is the likelier one by now, and by how much."""
        told = self._metrics["train"]
        means = {
            ours: sum(told[name]) / len(told[name]) for name, ours in TOLD.items() if "loss" in logs and told[name]
        }
        told.clear()
        super().log(logs | means, start_time)

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        self._count()
        return self.validated(self.preference_loss())

    @torch.no_grad()
    def preference_loss(self) -> float:
        """Mean over the held-out pairs, without dropout; ln 2 is what the reference itself comes to."""
        model = self.model_wrapped
        model.eval()
        total, pairs = torch.zeros((), device=self.args.device), torch.zeros((), device=self.args.device)
        for batch in self.get_eval_dataloader():
            look(self.safety.stop)
            count = len(batch["input_ids"]) // 2
            with self.compute_loss_context_manager():
                total += self.compute_loss(model, batch) * count
            pairs += count
        self._metrics["eval"].clear()  # they would be told as the next line's
        sums = self.accelerator.reduce(torch.stack([total, pairs]), reduction="sum").tolist()
        return float(sums[0] / max(1.0, sums[1]))
