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
    rated = batch.messages.lazy().filter(pl.col("rating").is_not_null() & (pl.col("role") == "assistant"))
    means = rated.group_by("conversation").agg(mean=pl.col("rating").mean()).collect()
    numbers = pl.DataFrame({"conversation": pl.arange(len(batch.conversations), dtype=pl.UInt32, eager=True)})
    mean = numbers.join(means, on="conversation", how="left", maintain_order="left")["mean"]
    rating = pl.select(pl.coalesce(batch.conversations["rating"], mean)).to_series()
    liked, disliked = (rating >= LIKED).fill_null(False), (rating <= DISLIKED).fill_null(False)
    return (liked.cast(pl.UInt8) + 2 * disliked.cast(pl.UInt8)).to_numpy()
