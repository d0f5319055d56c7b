"""A bare training loop whose techniques are switched on one after the other: what each of them adds."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from theta_ml.bench.train_work import Job

TECHNIQUES = ("packed", "isolated", "bf16", "logits only where labelled", "compiled")
"""Each with those before it; before the first, documents are padded to the longest of a batch."""


def loop(job: "Job") -> dict[str, float]:
    """AdamW, clipping and all, with `job.techniques`."""
    import torch

    from theta_ml.bench.train_work import Clock, begin, useful_tokens
    from theta_ml.training.compiling import compile_backbone

    corpus, model, preset = begin(job)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).train()
    if "compiled" in job.techniques:
        compile_backbone(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=preset.hyper.rate_scratch, fused=True)
    clock, pad = Clock(job), corpus.tokenizer().pad
    for batch in _batches(corpus, job, pad):
        clock.tokens += useful_tokens(batch, pad)
        with torch.autocast(device.type, torch.bfloat16, enabled="bf16" in job.techniques):
            loss = _loss(model, {name: tensor.to(device) for name, tensor in batch.items()}, job)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), preset.hyper.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if clock.step():
            break
    return clock.measured({})


def _loss(model: Any, batch: dict[str, Any], job: "Job") -> Any:
    from torch.nn import functional

    labels = batch.pop("labels")
    if "logits only where labelled" in job.techniques:
        return model(**batch, labels=labels, use_cache=False).loss
    logits = model(**batch, use_cache=False).logits
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())


def _batches(corpus: Any, job: "Job", pad: int) -> Iterator[dict[str, Any]]:
    """Without end, in a random order."""
    random = np.random.default_rng(1)
    while True:
        yield from _packed(corpus, job, random) if "packed" in job.techniques else _padded(corpus, job, pad, random)


def _packed(corpus: Any, job: "Job", random: np.random.Generator) -> Iterator[dict[str, Any]]:
    import torch

    from theta_ml.training.data import make_batch

    rows = corpus.rows("train")
    order = random.permutation(rows.count)
    for first in range(0, rows.count - job.rows_at_once + 1, job.rows_at_once):
        chosen = order[first : first + job.rows_at_once].tolist()
        batch = make_batch(rows, chosen, loss_at="logits only where labelled" in job.techniques)
        if "isolated" not in job.techniques:
            batch["position_ids"] = torch.arange(job.max_length).expand(len(chosen), -1).contiguous()
        yield batch


def _padded(corpus: Any, job: "Job", pad: int, random: np.random.Generator) -> Iterator[dict[str, Any]]:
    import torch

    documents = corpus.documents("train")
    order = random.permutation(len(documents))
    for first in range(0, len(documents) - job.rows_at_once + 1, job.rows_at_once):
        chosen = [documents[index] for index in order[first : first + job.rows_at_once]]
        tokens = np.full((len(chosen), max(len(each.tokens) for each in chosen)), pad, np.int64)
        labels = np.full(tokens.shape, -100, np.int64)
        for row, each in enumerate(chosen):
            tokens[row, : len(each.tokens)] = each.tokens
            labels[row, : len(each.tokens)] = np.where(each.learned, each.tokens.astype(np.int64), -100)
        yield {
            "input_ids": torch.from_numpy(tokens),
            "attention_mask": torch.from_numpy((tokens != pad).astype(np.int64)),
            "labels": torch.from_numpy(labels),
        }
