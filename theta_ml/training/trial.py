"""A few rows, learned by heart: whether there is anything to learn, and how fast this machine is at it."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from theta_ml.corpus.rows import Rows
from theta_ml.model.modeling_theta import IGNORED
from theta_ml.stage import StageFailed
from theta_ml.training.hardware import autocast

STEPS = 20
ROWS = 4
STEP_FLOPS = 2e11
"""Most work of a step on a CPU: a large model sees shortened rows there, so that the look stays short."""
LEAST_RATE = 3e-4
"""A rate for going on gently moves nothing in so few steps."""
FALL = 0.95
"""The loss must fall below this share of what it was."""


@dataclass(frozen=True)
class Trial:
    """Losses are nats a token."""

    losses: list[float]
    tokens_per_second: float


def try_out(
    model: PreTrainedModel, rows: Rows, rate: float, seed: int, frozen: Sequence[PreTrainedModel] = ()
) -> Trial:
    """Learns a few rows without dropout, on the device where the model is. Changes the model.

    The `frozen` models (a teacher, a reference) look at each batch too, for the time that takes.
    """
    device = next(model.parameters()).device
    chosen = np.sort(np.random.default_rng(seed).permutation(rows.count)[:ROWS])
    batch = _batch(rows, chosen, _room(model, device))
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=rate, betas=(0.9, 0.95), fused=True)
    batch = {name: value.to(device) for name, value in batch.items()}
    model.eval()
    losses: list[float] = []
    started = time.perf_counter()
    for step in range(STEPS):
        if step == 1:
            started = time.perf_counter()  # the first step also sets things up
        for group in optimizer.param_groups:
            group["lr"] = max(rate, LEAST_RATE) * min(1.0, (step + 1) / 5)
        losses.append(one_step(model, optimizer, batch, frozen))
    seconds = time.perf_counter() - started
    return Trial(losses, (STEPS - 1) * batch["input_ids"].numel() / seconds)


def one_step(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    batch: dict[str, Tensor],
    frozen: Sequence[PreTrainedModel] = (),
) -> float:
    """The batch's loss before the step."""
    with autocast(batch["input_ids"].device):
        with torch.no_grad():
            for onlooker in frozen:
                onlooker(input_ids=batch["input_ids"], position_ids=batch["position_ids"])
        loss = model(**batch).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


def require_learnable(trial: Trial) -> None:
    """Raises StageFailed where the loss was no number, or did not fall."""
    first, last = trial.losses[0], trial.losses[-1]
    if not all(map(math.isfinite, trial.losses)):
        step = next(number for number, loss in enumerate(trial.losses, 1) if not math.isfinite(loss))
        raise StageFailed(
            f"the loss was {trial.losses[step - 1]} at step {step} of the trial: the starting weights are damaged, or "
            f"the rate is too high; roll back to an older champion, or lower the rate in the recipe's `hyper`"
        )
    if last > FALL * first:
        raise StageFailed(
            f"a few rows could not be learned: their loss went from {first:.3f} to {last:.3f} in {STEPS} steps. "
            f"Look at the snapshot's conversations (is there text in them?) and at the model training starts from"
        )


def _room(model: PreTrainedModel, device: torch.device) -> int | None:
    """Tokens that STEP_FLOPS allow, at 6 operations for a parameter and token; None: no limit."""
    if device.type == "cuda":
        return None
    return int(STEP_FLOPS / (6 * sum(parameter.numel() for parameter in model.parameters())))


def _batch(rows: Rows, chosen: Any, tokens: int | None) -> dict[str, Tensor]:
    """Each (rows, time), shortened to so many tokens in all."""
    taken = rows.take(chosen)
    ids = torch.from_numpy(taken.tokens.astype(np.int64))
    labels = ids.masked_fill(~torch.from_numpy(taken.learned), IGNORED)
    count, length = ids.shape
    if tokens is not None:
        count = max(1, min(count, tokens // length))
        length = min(length, max(64, tokens // count))
    batch = {"input_ids": ids, "position_ids": torch.from_numpy(taken.positions), "labels": labels}
    return {name: value[:count, :length] for name, value in batch.items()}
