"""The library's trainer with our rows, our loss and our validation.

With a collator of ours and a forward that returns only the loss, it is as fast as a loop written by hand; and it brings
Accelerate's processes, adapters and preference training along.
"""

from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import EarlyStoppingCallback, Trainer, TrainingArguments

from theta_ml.corpus.rows import Rows
from theta_ml.model.attention import training_attention
from theta_ml.training.compiling import compile_backbone, pays
from theta_ml.training.data import Collator, EpochOrder, InOrder, PackedRows, loss_tokens
from theta_ml.training.hardware import has_bfloat16, pick_device
from theta_ml.training.processes import world_size
from theta_ml.training.resources import parameters, takes
from theta_ml.training.safe import SafeCheckpoints, Safety
from theta_ml.training.schedule import Plan
from theta_ml.training.sharding import sharding_arguments
from theta_ml.training.stop import look

if TYPE_CHECKING:
    from theta_ml.training.fit import Fit

BETAS = (0.9, 0.95)  # a short memory of the gradient's size, as is usual for runs of few steps


class ThetaTrainer(SafeCheckpoints, Trainer):
    """Trains on packed rows; the loss is the mean over a step's labelled tokens, whichever batch they came in."""

    train_dataset: PackedRows

    @classmethod
    def of(cls, work: "Fit", safety: Safety) -> Self:
        """The trainer for this work."""
        trainer = cls(
            model=work.model,
            args=arguments(work, safety),
            data_collator=cast(Any, Collator(takes(work.model, "loss_at"))),
            train_dataset=PackedRows(cast(Rows, work.train)),
            eval_dataset=PackedRows(cast(Rows, work.validation), work.hyper.validation_rows),
            callbacks=callbacks_of(work),
        )
        trainer.make_safe(safety)
        make_fast(work, safety.plan, trainer.args.device)
        return trainer

    def tokens_of(self, first: int, last: int) -> int:
        plan, rows = self.safety.plan, self.train_dataset.rows
        return (plan.rows_before(last) - plan.rows_before(first)) * int(rows.max_length)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Matrices; norms and biases do not decay."""
        return [name for name, parameter in model.named_parameters() if parameter.ndim > 1]

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        rows = self.args.train_batch_size * self.args.world_size
        self._order = EpochOrder(len(self.train_dataset), rows, self.args.seed)
        return self._order

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler[int]:
        return InOrder(len(eval_dataset), self.args.eval_batch_size * self.args.world_size)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        self._order.set_epoch(kwargs["epoch"])  # Accelerate's wrappers do not all pass it on
        super()._run_epoch(*args, **kwargs)

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Tensor]], device: torch.device) -> Tensor | int:
        """Tokens that bear loss in the whole step, over all processes; never 0."""
        items = sum(loss_tokens(batch) for batch in batch_samples)
        if self.args.world_size > 1:
            items = self.accelerator.reduce(torch.as_tensor(items, device=device), reduction="sum")
        return items.clamp(min=1) if isinstance(items, Tensor) else max(1, items)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        self._count()
        return self.validated(self.validation_loss())

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Mean loss in nats over the labelled tokens of the first `validation_rows` rows, without dropout."""
        model = self.model_wrapped
        model.eval()
        total, items = torch.zeros((), device=self.args.device), torch.zeros((), device=self.args.device)
        for batch in self.get_eval_dataloader():
            look(self.safety.stop)
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
            total += model(**batch, num_items_in_batch=1).loss.detach()
            items += loss_tokens(batch)
        sums = self.accelerator.reduce(torch.stack([total, items]), reduction="sum").tolist()
        return float(sums[0] / max(1.0, sums[1]))


Arguments = TypeVar("Arguments", bound=TrainingArguments)


def arguments(
    work: "Fit",
    safety: Safety,
    kind: type[Arguments] = TrainingArguments,  # type: ignore[assignment]
    **more: Any,
) -> Arguments:
    """The library's arguments, of the kind that a method's trainer takes, with `more` that is its own.

    Raises ValueError where the rows of a step cannot be shared among the processes.
    """
    hyper, plan, device = work.hyper, safety.plan, pick_device()
    processes = world_size()
    if hyper.rows_per_step % (hyper.rows_at_once * processes):
        raise ValueError(
            f"rows_per_step {hyper.rows_per_step} over {processes} processes of rows_at_once {hyper.rows_at_once}: "
            f"choose rows_at_once as a divisor of {hyper.rows_per_step / processes:g}"
        )
    every = hyper.validate_steps or plan.steps_per_epoch
    workers = 1 if device.type == "cuda" else 0
    made = kind(
        output_dir=str(work.folder),
        max_steps=plan.steps,
        per_device_train_batch_size=hyper.rows_at_once,
        per_device_eval_batch_size=hyper.rows_at_once,
        gradient_accumulation_steps=hyper.rows_per_step // (hyper.rows_at_once * processes),
        learning_rate=plan.peak,
        weight_decay=hyper.weight_decay,
        max_grad_norm=hyper.clip,
        optim="adamw_torch_fused",
        adam_beta1=BETAS[0],
        adam_beta2=BETAS[1],
        logging_strategy="steps",
        logging_steps=plan.steps_per_line,
        logging_nan_inf_filter=False,  # it asks the device after each batch; the guard asks once a line
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        restore_callback_states_from_checkpoint=True,
        seed=work.seed,
        bf16=has_bfloat16(device) if work.bfloat16 is None else work.bfloat16,
        use_cpu=device.type == "cpu",
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
        dataloader_prefetch_factor=4 if workers else None,
        dataloader_pin_memory=device.type == "cuda",
        accelerator_config={"non_blocking": device.type == "cuda"},
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        **_memory_saving(work),
        **more,
    )
    if processes == 1 and made.n_gpu > 1:
        made._n_gpu = 1  # several GPUs are several processes; the library would share one out among threads
    return made


def _memory_saving(work: "Fit") -> dict[str, Any]:
    again = work.hyper.gradient_checkpointing
    if work.sharded and world_size() > 1:
        return sharding_arguments(again)
    return {"activation_checkpointing": again, "activation_checkpointing_kwargs": {"use_reentrant": False}}


def make_fast(work: "Fit", plan: Plan, device: torch.device) -> None:
    """Compiles the model where that pays, and chooses its attention accordingly."""
    tokens = plan.steps * work.hyper.rows_per_step * work.train.max_length
    wanted = work.hyper.compile and pays(parameters(work.model), tokens, device.type)
    compiled = wanted and compile_backbone(work.model, work.log)
    work.model.set_attn_implementation(training_attention(work.model.config, device, compiled))


def callbacks_of(work: "Fit") -> list[Any]:
    patience = work.hyper.patience
    return [*([EarlyStoppingCallback(patience)] if patience else []), *work.callbacks]
