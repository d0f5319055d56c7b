"""Packed rows as the model takes them. Which rows a step sees depends on the seed and the step alone, so that a resumed
training goes on where it was."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from theta_ml.corpus.rows import Rows, Taken
from theta_ml.model.modeling_theta import IGNORED, loss_positions

PADDING = -1
"""Number of a row that is there for the batch's shape and bears no loss."""


class PackedRows(Dataset[Taken]):
    """The first `limit` rows (None: all), read from the memory maps a batch at a time."""

    def __init__(self, rows: Rows, limit: int | None = None) -> None:
        self.rows = rows
        self.count = rows.count if limit is None else min(limit, rows.count)

    def __len__(self) -> int:
        return self.count

    def __getitems__(self, chosen: list[int]) -> Taken:
        """The rows of these numbers. PADDING gives some row with nothing to learn."""
        numbers = np.asarray(chosen, np.int64)
        taken = self.rows.take(np.maximum(numbers, 0))
        taken.learned[numbers == PADDING] = False
        return taken


class EpochOrder(Sampler[int]):
    """Each epoch sees every row once, in an order of its own; then padding, to whole batches of a whole number."""

    def __init__(self, rows: int, multiple: int, seed: int) -> None:
        """`multiple` is the number of rows that all processes take at once."""
        self.rows, self.seed, self.epoch = rows, seed, 0
        self.padded = -(-rows // multiple) * multiple

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.padded

    def __iter__(self) -> Iterator[int]:
        yield from np.random.default_rng([self.seed, self.epoch]).permutation(self.rows).tolist()
        yield from [PADDING] * (self.padded - self.rows)


class InOrder(Sampler[int]):
    """Every row once, from the first on, then padding."""

    def __init__(self, rows: int, multiple: int) -> None:
        self.rows, self.padded = rows, -(-rows // multiple) * multiple

    def __len__(self) -> int:
        return self.padded

    def __iter__(self) -> Iterator[int]:
        yield from range(self.rows)
        yield from [PADDING] * (self.padded - self.rows)


@dataclass(frozen=True)
class Collator:
    """Rows as tensors. There is no attention mask: the model tells documents apart by positions that start again."""

    loss_at: bool = True
    """Say where loss is taken, which spares a GPU from being asked; only Theta's own model understands it."""

    def __call__(self, taken: Taken) -> dict[str, Tensor]:
        """input_ids, position_ids and labels (rows, time), loss_at (n,): all int64."""
        tokens = torch.from_numpy(taken.tokens.astype(np.int64))
        labels = tokens.masked_fill(~torch.from_numpy(taken.learned), IGNORED)
        batch = {"input_ids": tokens, "position_ids": torch.from_numpy(taken.positions), "labels": labels}
        if self.loss_at:
            batch["loss_at"] = loss_positions(labels)
        return batch


def make_batch(rows: Rows, chosen: list[int], loss_at: bool = True) -> dict[str, Tensor]:
    """One batch by hand."""
    return Collator(loss_at)(PackedRows(rows).__getitems__(chosen))


def loss_tokens(batch: dict[str, Tensor]) -> int | Tensor:
    """Tokens that bear loss; a number where the batch says where they are, and a tensor on its device where not."""
    if "loss_at" in batch:
        return len(batch["loss_at"])
    return (batch["labels"][:, 1:] != IGNORED).sum()
