"""A smaller student learns from what a teacher thinks of every next token, and not only from the one that came."""

from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from theta_ml.model.modeling_theta import IGNORED
from theta_ml.training.safe import Safety
from theta_ml.training.trainer import ThetaTrainer

if TYPE_CHECKING:
    from theta_ml.training.fit import Fit

TEACHER = "teacher"
"""Name of the teacher among what a method needs beside."""
TEMPERATURE = 2.0
"""Softens both distributions, so that what the teacher holds unlikely still teaches."""
TEACHERS_SHARE = 0.5
"""Of the loss; the rest is the usual cross-entropy."""


class DistillTrainer(ThetaTrainer):
    """The loss is a share of KL(teacher ‖ student), softened, beside cross-entropy (Hinton et al. 2015,
    arXiv:1503.02531, where the softened part is multiplied by the temperature's square to keep its gradients' size)."""

    teacher: PreTrainedModel

    @classmethod
    def of(cls, work: "Fit", safety: Safety) -> Self:
        """Needs `work.extra[TEACHER]`, a model with the student's vocabulary."""
        trainer = super().of(work, safety)
        trainer.teacher = work.extra[TEACHER]
        trainer.teacher.to(trainer.args.device).requires_grad_(False).eval()  # type: ignore[arg-type]
        return trainer

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """In nats, a mean over the step's labelled tokens."""
        labels = inputs["labels"]
        bears = functional.pad(labels[:, 1:] != IGNORED, (0, 1))
        seen = {"input_ids": inputs["input_ids"], "position_ids": inputs["position_ids"], "use_cache": False}
        outputs = model(**seen, logits_to_keep=bears)
        with torch.no_grad():
            taught = self.teacher(**seen, logits_to_keep=bears).logits
        total = distillation_loss(outputs.logits, taught, labels[:, 1:][bears[:, :-1]])
        items = len(taught) if num_items_in_batch is None else num_items_in_batch
        loss = total * self.accelerator.num_processes / items
        return (loss, outputs) if return_outputs else loss


def distillation_loss(student: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
    """Summed over the tokens; logits are (tokens, vocabulary), targets (tokens,)."""
    student, teacher = student.float(), teacher.float()
    hard = functional.cross_entropy(student, targets, reduction="sum")
    soft = functional.kl_div(
        functional.log_softmax(student / TEMPERATURE, -1),
        functional.log_softmax(teacher / TEMPERATURE, -1),
        reduction="sum",
        log_target=True,
    )
    return (1 - TEACHERS_SHARE) * hard + TEACHERS_SHARE * TEMPERATURE**2 * soft
