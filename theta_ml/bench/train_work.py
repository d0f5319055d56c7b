"""The work that `theta bench train` measures: a training of one contender, in a process of its own.

`python -m theta_ml.bench.train_work JOB`, with a `Job` as JSON, prints a `Measured` as JSON. A step is counted when it
ends; what is no padding counts as useful. Compiling and the first steps lie before the clock starts.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import theta_ml.threads  # noqa: F401  before torch

ROWS_PER_STEP = 8
"""Rows, or documents where they are not packed, behind one optimizer step of every contender."""
PEER_LAYOUTS: dict[str, dict[str, Any]] = {
    "packed, batch 1": {"packing": True, "batch": 1},
    "packed, batch 8": {"packing": True, "batch": 8},
    "wrapped": {"packing": True, "packing_strategy": "wrapped", "batch": 8},
    "padded": {"batch": 8},
    "padded, grouped by length": {"batch": 8, "train_sampling_strategy": "group_by_length"},
}
"""What TRL can do with conversations. Packing is its best-fit decreasing, with documents told apart; wrapped is not."""


@dataclass(frozen=True)
class Job:
    """What a contender is given."""

    contender: str
    """`theta`, `trl` or `loop`."""
    corpus: str
    """Folder of a `BenchCorpus`."""
    max_length: int
    preset: str = "tiny"
    layout: str = ""
    """Of `trl`: one of PEER_LAYOUTS."""
    compiled: bool = True
    techniques: list[str] = field(default_factory=list)
    """Of `loop`: what is switched on (`train_loop`)."""
    rows_per_step: int = ROWS_PER_STEP
    rows_at_once: int = ROWS_PER_STEP
    warm_seconds: float = 4.0
    """Between the first step and the clock's start: shapes are still compiled."""
    seconds: float = 8.0
    """Of measuring."""
    home: str = ""
    """For checkpoints and caches."""


@dataclass
class Clock:
    """Useful tokens by time."""

    job: Job
    tokens: int = 0
    began: float = field(default_factory=time.time)
    """Before model and data were there."""
    marks: list[tuple[float, int, float]] = field(default_factory=list)
    """When each step ended, the useful tokens until then, and the seconds that processors spent."""

    def step(self) -> bool:
        """Counts a step; whether it was enough of them."""
        self.marks.append((time.time(), self.tokens, time.process_time()))
        return len(self.marks) > 3 and self.marks[-1][0] - self.start > self.job.seconds

    @property
    def start(self) -> float:
        """When measuring begins."""
        return self.marks[0][0] + self.job.warm_seconds

    def measured(self, more: dict[str, float]) -> dict[str, float]:
        from theta_ml.bench.landing_work import peak_bytes

        steady = [mark for mark in self.marks if mark[0] >= self.start]
        if len(steady) < 2:  # steps that take longer than the whole measurement
            steady = self.marks[-2:]
        (first, before, spent), (last, after, by_then) = steady[0], steady[-1]
        return {
            "tokens_per_second": (after - before) / (last - first),
            "tokens_per_cpu_second": (after - before) / (by_then - spent),
            "whole_tokens_per_second": self.tokens / (time.time() - self.began),
            "steps": len(steady),
            "first_step_at": self.marks[0][0],
            "peak_bytes": peak_bytes(),
        } | more


def theta(job: Job) -> dict[str, float]:
    """Our trainer, as the stage `train` calls it."""
    import threading

    from theta_ml.training.fit import Fit, fit
    from theta_ml.training.stop import Stopped
    from theta_ml.training.trainer import ThetaTrainer

    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(job.home) / "compile-cache"))
    clock, stop = Clock(job), threading.Event()
    corpus, model, preset = begin(job)
    rows = corpus.rows("train")
    changes: dict[str, Any] = {
        "rows_per_step": job.rows_per_step,
        "rows_at_once": job.rows_at_once,
        "compile": job.compiled,
    }
    changes |= {"epochs": 10**6, "max_steps": 10**6, "checkpoint_seconds": 1e9, "validate_steps": 10**6}
    work = Fit(
        model=model,
        hyper=preset.hyper.changed(changes),
        train=rows,
        validation=corpus.rows("validation"),
        peak=preset.hyper.rate_scratch,
        seed=1,
        folder=Path(job.home) / f"checkpoints-{os.getpid()}",
        stop=stop,
        trainer=_counting(ThetaTrainer, clock),
    )
    work.callbacks.append(_ending(clock, stop.set))
    estimated = _estimate(model, rows, job)
    with contextlib.suppress(Stopped):
        fit(work)
    model.save_pretrained(Path(job.home) / f"model-{os.getpid()}")
    measured = clock.measured({"flops_per_token": flops_per_token(model, rows)})
    return measured | {"estimated_bytes": estimated}


def trl(job: Job) -> dict[str, float]:
    """TRL's SFTTrainer on the documents of the very same rows, its loss on what the assistant says, as ours."""
    import torch
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

    from theta_ml.training.hardware import has_bfloat16, pick_device

    clock = Clock(job)
    corpus, model, preset = begin(job)
    chosen = dict(PEER_LAYOUTS[job.layout])
    batch = chosen.pop("batch")
    arguments = SFTConfig(
        output_dir=job.home,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=job.rows_per_step // batch,
        max_length=job.max_length,
        bf16=has_bfloat16(pick_device()),
        gradient_checkpointing=False,
        torch_compile=job.compiled,
        optim="adamw_torch_fused",
        learning_rate=preset.hyper.rate_scratch,
        max_steps=10**6,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        **chosen,
    )
    trainer = _counting(SFTTrainer, clock)(
        model=model,
        args=arguments,
        train_dataset=dataset_of(corpus),
        processing_class=AutoTokenizer.from_pretrained(corpus.folder / "tokenizer", local_files_only=True),
    )
    trainer.add_callback(_ending(clock, None))
    trainer.train()
    trainer.save_model(f"{job.home}/model-{os.getpid()}")
    return clock.measured({})


def dataset_of(corpus: Any) -> Any:
    """The training documents as TRL takes them, already tokens, in a random order."""
    from datasets import Dataset

    documents = corpus.documents("train")
    columns = {
        "input_ids": [document.tokens.tolist() for document in documents],
        "labels": [_labels(document) for document in documents],
    }
    return Dataset.from_dict(columns).shuffle(seed=1)


def _labels(document: Any) -> list[int]:
    import numpy as np

    return np.where(document.learned, document.tokens.astype(np.int64), -100).tolist()


def _counting(trainer: type[Any], clock: Clock) -> type[Any]:
    """The trainer, which counts what is no padding in each batch that it is given."""

    class Counting(trainer):
        def training_step(self, model: Any, inputs: dict[str, Any], *arguments: Any, **named: Any) -> Any:
            clock.tokens += useful_tokens(inputs, self.model.config.pad_token_id)
            return super().training_step(model, inputs, *arguments, **named)

    return Counting


def useful_tokens(inputs: dict[str, Any], pad: int) -> int:
    return int((inputs["input_ids"] != pad).sum())


def _ending(clock: Clock, stop: Callable[[], None] | None) -> Any:
    """A callback that tells the clock of each step and ends the training when it has seen enough."""
    from transformers import TrainerCallback

    class Ending(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if clock.step():
                if stop:
                    stop()
                else:
                    control.should_training_stop = True

    return Ending()


def begin(job: Job) -> tuple[Any, Any, Any]:
    """Corpus, model with random weights, and preset: the same for all."""
    import torch

    from theta_ml.bench.train_corpus import BenchCorpus
    from theta_ml.model import ThetaConfig, ThetaForCausalLM
    from theta_ml.training.presets import find_preset

    corpus, preset = BenchCorpus(Path(job.corpus), job.max_length), find_preset(job.preset)
    attention = "sdpa" if torch.cuda.is_available() else "eager"
    torch.manual_seed(1)
    shape = preset.shape.config(corpus.tokenizer(), job.max_length) | {"attn_implementation": attention}
    shape["dropout"] = 0.0  # as a training has it that passes over its rows no more than twice
    return corpus, ThetaForCausalLM(ThetaConfig(**shape)), preset


def flops_per_token(model: Any, rows: Any) -> float:
    """Operations of a step for each token that is no padding: 6 for each weight of the blocks, and of the head where
    the token bears loss; and for attention 6 · layers · hidden · time, as the causal half of all pairs is computed."""
    import numpy as np

    taken = rows.take(np.arange(min(rows.count, 2048)))
    config = model.config
    useful = float((taken.tokens != config.pad_token_id).mean())
    blocks = sum(parameter.numel() for parameter in model.model.layers.parameters())
    head = model.lm_head.weight.numel() * float(taken.learned.mean())
    return 6 * (blocks + head + config.num_hidden_layers * config.hidden_size * rows.max_length) / useful


def _estimate(model: Any, rows: Any, job: Job) -> float:
    """What preflight says that this training needs, in bytes."""
    from theta_ml.settings import Settings
    from theta_ml.training.resources import Load, estimate

    return float(estimate(model, Load.of(rows, Settings())).of(job.rows_at_once))


def _main(job: Job) -> None:
    from theta_ml.bench.train_loop import loop

    measured = {"theta": theta, "trl": trl, "loop": loop}[job.contender](job)
    print(json.dumps(measured))  # noqa: T201


if __name__ == "__main__":
    _main(Job(**json.loads(sys.argv[1])))
