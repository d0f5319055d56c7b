"""Packed rows as the model takes them. Which rows a step sees depends on the seed and the step alone, so that a resumed
training goes on where it was."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from theta_ml.corpus.rows import Rows
from theta_ml.model.modeling_theta import IGNORED


@dataclass(frozen=True)
class Batch:
    """All (rows, time)."""

    input_ids: Tensor
    position_ids: Tensor
    labels: Tensor

    @property
    def loss_tokens(self) -> int:
        """Labels that the model is asked for; the first of a row has nothing before it."""
        return int((self.labels[:, 1:] != IGNORED).sum())

    def to(self, device: torch.device) -> "Batch":
        moved = (x.to(device, non_blocking=True) for x in (self.input_ids, self.position_ids, self.labels))
        return Batch(*moved)


def rows_of_step(rows: int, rows_per_step: int, seed: int, step: int) -> NDArray[np.int64]:
    """Rows behind one step. Each epoch sees every row once, in an order of its own; its last step may hold fewer."""
    per_epoch = -(-rows // rows_per_step)
    epoch, number = divmod(step, per_epoch)
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    return order[number * rows_per_step : (number + 1) * rows_per_step]


def micro_batches(rows: Rows, chosen: NDArray[np.int64], rows_at_once: int) -> Iterator[Batch]:
    for start in range(0, len(chosen), rows_at_once):
        yield make_batch(rows, chosen[start : start + rows_at_once])


def make_batch(rows: Rows, chosen: NDArray[np.int64]) -> Batch:
    """Reads the rows from the memory maps. There is no attention mask: the model tells documents apart by position."""
    taken = rows.take(chosen)
    tokens = torch.from_numpy(taken.tokens.astype(np.int64))
    labels = tokens.masked_fill(~torch.from_numpy(taken.learned), IGNORED)
    return Batch(tokens, torch.from_numpy(taken.positions), labels)
