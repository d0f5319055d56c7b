"""What tells a broken feed from a world that changed: shares that only damage moves, and swapped roles."""

from collections.abc import Sequence
from math import sqrt
from typing import TYPE_CHECKING

from theta_ml.quality.digest import Digest
from theta_ml.quality.features import HASHED_WORDS
from theta_ml.quality.thresholds import DriftSpec
from theta_ml.quality.wording import called, percent

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

_SURE = 1.0
"""Standard errors that a rise must also exceed: in a small month, a few conversations are a large share."""
_VARYING = ("starts_with_a_reply",)
"""What an assistant that begins to greet first changes too; see `_swapped`."""
_FLIPPED = 0.5


def faults(spec: DriftSpec, before: Sequence[Digest], current: Digest) -> list[str]:
    """What says, in plain words, that the feed is broken; empty where nothing does. `before`: the months it is compared
    with, the newest first."""
    return [*_risen(spec, before, current), *_swapped(spec, before, current)]


def _risen(spec: DriftSpec, before: Sequence[Digest], current: Digest) -> list[str]:
    found = []
    for name, now in current.description.indicators.items():
        usual = max(digest.description.indicators.get(name, 0.0) for digest in before)
        if name in _VARYING or (name == "same_number_of_turns" and now < spec.same_turns):
            continue
        rise = now - usual
        if rise > _limit(spec, name) + _SURE * sqrt(now * (1 - now) / len(current)):
            found.append((rise, f"{called(name)} went from {percent(usual)} to {percent(now)}"))
    return [sentence for _, sentence in sorted(found, reverse=True)]


def _limit(spec: DriftSpec, name: str) -> float:
    special = {
        "without_reply": spec.unanswered_rise,
        "same_words_begin_users": spec.template_rise,
        "same_words_begin_replies": spec.template_rise,
    }
    return special.get(name, spec.broken_rise)


def _swapped(spec: DriftSpec, before: Sequence[Digest], current: Digest) -> list[str]:
    """Users say what replies said and the other way round; or one cannot tell by the words, and the other begins."""
    starts = [digest.description.indicators.get("starts_with_a_reply", 0.0) for digest in (before[0], current)]
    flipped = abs(starts[1] - starts[0]) > _FLIPPED
    alike = roles_alike(before[0], current)
    if alike < -spec.roles_alike or (flipped and alike < spec.roles_alike):
        return ["users and replies have changed places"]
    return []


def roles_alike(reference: Digest, current: Digest) -> float:
    """Cosine (-1 to 1) between what sets users' words apart from replies' in either month; 0 where nothing does."""
    import numpy as np

    ours, theirs = (_contrast(digest) for digest in (reference, current))
    lengths = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
    return float(ours @ theirs) / lengths if lengths else 0.0


def _contrast(digest: Digest) -> "NDArray[np.float64]":
    """(HASHED_WORDS,): by how much more users use a word than replies do, in shares of conversations."""
    return _shares(digest.sample["user_words"]) - _shares(digest.sample["reply_words"])


def _shares(lists: "pl.Series") -> "NDArray[np.float64]":
    import numpy as np

    words = lists.explode().drop_nulls().to_numpy()
    return np.bincount(words % HASHED_WORDS, minlength=HASHED_WORDS) / max(1, len(lists))
