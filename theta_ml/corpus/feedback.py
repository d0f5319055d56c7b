"""What people thought of a conversation, as a tier that its weight in training hangs on."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from theta_ml.corpus.batch import Batch

TIERS = ("neutral", "liked", "disliked")
LIKED, DISLIKED = 4.0, 2.0
"""Ratings go from 1 to 5: from LIKED on a conversation was liked, up to DISLIKED it was not."""


def tiers(batch: Batch) -> NDArray[np.uint8]:
    """(conversations,), indices into TIERS: by its own rating, else by the mean of its answers', else neutral."""
    own = batch.conversations["rating"].fill_null(np.nan).to_numpy()
    rating = np.where(np.isnan(own), _mean_of_answers(batch), own)
    return ((rating >= LIKED) + 2 * (rating <= DISLIKED)).astype(np.uint8)


def _mean_of_answers(batch: Batch) -> NDArray[np.float64]:
    """(conversations,), NaN where no answer is rated. Summed in their order: threads must not decide a tie."""
    rated = batch.messages.filter(pl.col("rating").is_not_null() & (pl.col("role") == "assistant"))
    of, size = rated["conversation"].to_numpy(), len(batch.conversations)
    total, count = np.bincount(of, rated["rating"].to_numpy(), size), np.bincount(of, minlength=size)
    return np.where(count, total / np.maximum(count, 1), np.nan)
