"""The work that `theta bench quality` measures: one model trained and scored, in a process of its own.

`python -m theta_ml.bench.quality_work theta|trl JOB`, with a `Job` as JSON, prints a `Quality` as JSON.
"""

import json
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import theta_ml.threads  # noqa: F401  before torch


@dataclass(frozen=True)
class Job:
    """What both are given."""

    corpus: str
    """Folder of a `BenchCorpus`."""
    max_length: int
    home: str
    """For checkpoints, and the model."""
    seed: int
    epochs: int
    conversations: int
    """Held-out ones, to be scored."""


@dataclass(frozen=True)
class Quality:
    """How well a trained model predicts what assistants said in conversations that it never saw."""

    bits_per_byte: float
    tokens: int
    """That it learned from, each as often as it was shown."""
    parameters: int
    steps: int


def theta(job: Job, folder: Path) -> tuple[int, int]:
    """Our trainer with the preset's hyper-parameters; writes the model, returns its parameters and steps."""
    import torch

    from theta_ml.bench.train_corpus import BenchCorpus
    from theta_ml.model import ThetaConfig, ThetaForCausalLM
    from theta_ml.training.fit import Fit, fit
    from theta_ml.training.presets import TINY
    from theta_ml.training.resources import parameters

    corpus = BenchCorpus(Path(job.corpus), job.max_length)
    shape = TINY.shape.config(corpus.tokenizer(), job.max_length) | {"attn_implementation": "eager"}
    torch.manual_seed(job.seed)
    model = ThetaForCausalLM(ThetaConfig(**shape))
    hyper = TINY.hyper.changed({"epochs": job.epochs, "max_steps": 10**6, "checkpoint_seconds": 1e9, "patience": None})
    work = Fit(
        model=model,
        hyper=hyper,
        train=corpus.rows("train"),
        validation=corpus.rows("validation"),
        peak=hyper.rate_scratch,
        seed=job.seed,
        folder=folder / "checkpoints",
    )
    fitted = fit(work)
    model.save_pretrained(folder)
    return parameters(model), fitted.steps


def trl(job: Job, folder: Path) -> tuple[int, int]:
    """A Llama of the same size, trained by TRL on the same pieces, packed and told apart, with the same rates."""
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

    from theta_ml.bench.train_corpus import BenchCorpus
    from theta_ml.bench.train_work import dataset_of
    from theta_ml.training.hardware import has_bfloat16, pick_device
    from theta_ml.training.presets import TINY
    from theta_ml.training.trainer import BETAS

    corpus = BenchCorpus(Path(job.corpus), job.max_length)
    torch.manual_seed(job.seed)
    model = LlamaForCausalLM(llama_config(corpus, job.max_length))
    hyper = TINY.hyper
    arguments = SFTConfig(
        output_dir=str(folder / "trl"),
        num_train_epochs=job.epochs,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=hyper.rows_per_step,
        packing=True,
        max_length=job.max_length,
        learning_rate=hyper.rate_scratch,
        lr_scheduler_type="cosine",
        warmup_steps=hyper.warmup,
        weight_decay=hyper.weight_decay,
        max_grad_norm=hyper.clip,
        adam_beta1=BETAS[0],
        adam_beta2=BETAS[1],
        optim="adamw_torch_fused",
        bf16=has_bfloat16(pick_device()),
        gradient_checkpointing=False,
        seed=job.seed,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )

    tokenizer = AutoTokenizer.from_pretrained(corpus.folder / "tokenizer", local_files_only=True)
    trainer = SFTTrainer(model=model, args=arguments, train_dataset=dataset_of(corpus), processing_class=tokenizer)
    trainer.train()
    model.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters()), int(trainer.state.global_step)


def llama_config(corpus: Any, max_length: int) -> Any:
    """Of the preset's size: as wide, as deep, and with the head tied to the embeddings."""
    from transformers import LlamaConfig

    from theta_ml.training.presets import TINY

    shape = TINY.shape.config(corpus.tokenizer(), max_length)
    shape |= {"tie_word_embeddings": True, "attn_implementation": "eager"}
    del shape["dropout"]
    return LlamaConfig(**shape)


def _scored(job: Job, folder: Path) -> float:
    """Bits per byte over all held-out conversations together."""
    import shutil

    from theta_ml.bench.train_corpus import held_out
    from theta_ml.model.scoring import score_conversations

    shutil.copytree(Path(job.corpus) / "tokenizer", folder, dirs_exist_ok=True)
    scores = score_conversations(folder, held_out(job.conversations))
    return sum(score.nats for score in scores) / (math.log(2) * sum(score.bytes for score in scores))


def _tokens(job: Job) -> int:
    from theta_ml.bench.train_corpus import BenchCorpus

    documents = BenchCorpus(Path(job.corpus), job.max_length).documents("train")
    return job.epochs * sum(len(document.tokens) for document in documents)


def _main(who: str, job: Job) -> None:
    folder = Path(job.home) / f"{who}-{job.seed}"
    folder.mkdir(parents=True)
    parameters, steps = {"theta": theta, "trl": trl}[who](job, folder)
    print(json.dumps(asdict(Quality(_scored(job, folder), _tokens(job), parameters, steps))))  # noqa: T201


if __name__ == "__main__":
    _main(sys.argv[1], Job(**json.loads(sys.argv[2])))
