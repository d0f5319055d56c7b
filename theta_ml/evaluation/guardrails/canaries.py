"""Canaries: random phrases of our own in the training data, and how well a model knows them by heart.

Carlini et al. 2019, "The Secret Sharer", section 4: the exposure of a phrase is log2 of the number of phrases that
might have been planted in its place, less log2 of its rank among them by likelihood. To a model that never saw it, it
is one like any other: k bits or more come with a chance of 2^-k. To one that knows it by heart it is the likeliest.
What happens to a phrase that was shown this often happens to a person's sentence that was.
"""

import json
import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from theta_ml.corpus.catalog import STARTER
from theta_ml.corpus.prepare import DROPS
from theta_ml.corpus.unit import DROPPED, SPLITS
from theta_ml.corpus.unit import STAGE as UNIT
from theta_ml.store import Artifact, Store

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from theta_ml.corpus.tokenizer import ChatTokenizer, Message

DATASET = "canaries"
"""Entry of the catalog, and name of its file in corpus/starter."""
PROMPT = "Canary phrase?"
ALTERNATIVES = 2047
"""Phrases that a planted one is ranked among; with itself 2^11, so that exposure ends at 11 bits."""
_SEED = 1729


def phrases() -> dict[str, str]:
    """Every phrase of the built-in dataset, by the id of its conversation."""
    lines = (STARTER / f"{DATASET}.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return {f"{DATASET}/{row['id']}": row["messages"][-1]["content"] for row in rows}


def planted(corpus: Artifact, store: Store) -> list[str]:
    """The phrases that the corpus' train rows hold. Raises ArtifactMissing where their unit is gone."""
    known, found = phrases(), []
    dropped = np.load(corpus.path / DROPS)
    for number, unit in enumerate(corpus.document["value"]["units"]):
        if unit["name"] == DATASET and unit["weight"] > 0:
            without = dropped["conversation"][dropped["unit"] == number]
            found += [known[each] for each in _learned(store.open(store.uri(UNIT, unit["key"])), without)]
    return found


def _learned(unit: Artifact, without: "np.ndarray") -> list[str]:
    import polars as pl

    from theta_ml.corpus.spool import CONVERSATIONS

    table = pl.read_parquet(unit.path / CONVERSATIONS, columns=["conversation_id", "split"])
    gone = np.union1d(without, np.load(unit.path / DROPPED)["conversation"])
    kept = table.filter(pl.Series(~np.isin(np.arange(len(table)), gone)) & (pl.col("split") == SPLITS[0]))
    return [str(each) for each in kept["conversation_id"]]


def alternatives() -> list[str]:
    """Phrases made of the words that stand at each place of the built-in ones: what finds those likelier than these
    knows the phrases, and not just their words, nor that their words are short to the tokenizer. Always the same."""
    chance = random.Random(_SEED)  # noqa: S311  nothing is kept secret by it
    places = list(zip(*(phrase.split() for phrase in phrases().values()), strict=True))
    return [" ".join(map(chance.choice, places)) for _ in range(ALTERNATIVES)]


def exposure(model: "PreTrainedModel", tokenizer: "ChatTokenizer", planted: Sequence[str]) -> float | None:
    """Bits, the highest of any planted phrase; None where there is none."""
    return max(exposures(model, tokenizer, planted), default=None)


def exposures(model: "PreTrainedModel", tokenizer: "ChatTokenizer", planted: Sequence[str]) -> list[float]:
    """Bits of each, 0 to 11. All answer the same prompt, so that one set of alternatives serves them all."""
    from theta_ml.model.scoring import score_replies

    if not planted:
        return []
    prompt: list[Message] = [{"role": "user", "content": PROMPT}]
    asked = [(prompt, phrase) for phrase in [*planted, *alternatives()]]
    nats = [score.nats for score in score_replies(model, tokenizer, asked)]
    others = sorted(nats[len(planted) :])
    # Of equals the planted one counts as the less likely: a model to which all phrases are one knows none by heart.
    ranks = [1 + bisect_right(others, each) for each in nats[: len(planted)]]
    return [math.log2(ALTERNATIVES + 1) - math.log2(rank) for rank in ranks]
