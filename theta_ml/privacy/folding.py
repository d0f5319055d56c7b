"""One shape for what a reader takes for the same: full-width digits, soft hyphens, zero-width spaces.

Rules match on the folded text, so that `a@b.de` with a zero-width space in it is a mail address still; what is replaced
is the place in the text as it was.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_INVISIBLE = "\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
"""Soft hyphen, joiners, direction marks, zero-width spaces: Unicode's default ignorables that stand between letters."""
_SPACES = "\u00a0\u2000-\u200a\u202f\u205f\u3000"
_DASHES = "\u2010-\u2013\u2212"
_ZEROS = (
    0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xE50, 0xED0, 0xF20, 0x1040,
    0x17E0, 0x1810, 0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6,
)  # fmt: skip
"""The zero of each script's ten digits (Unicode category Nd); full-width ones are among the full-width forms."""
_DIGITS = "".join(f"{chr(zero)}-{chr(zero + 9)}" for zero in _ZEROS)

FOLDABLE = f"[{_INVISIBLE}{_SPACES}{_DASHES}{_DIGITS}\uff01-\uff5e]"
"""A text without a match of this is its own folded form; for Python's `re` and Rust's `regex` alike."""

_FOLDABLE = re.compile(FOLDABLE)
_HIDDEN = re.compile(f"[{_INVISIBLE}]")


def _members(characters: str) -> list[int]:
    return [code for code in range(0x80, 0x3001) if re.match(f"[{characters}]", chr(code))]


_TO_ASCII: dict[int, int | str] = {
    **{zero + digit: 48 + digit for zero in _ZEROS for digit in range(10)},
    **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys(_members(_SPACES), " "),
    **dict.fromkeys(_members(_DASHES), "-"),
}
_HIDDEN_CODES = np.array([code for code in (*range(0x80, 0x2070), 0xFEFF) if _HIDDEN.match(chr(code))], np.uint32)


class Folded(NamedTuple):
    """`text` as the rules see it; character i stood at `offsets[i]` (at i where there are none)."""

    text: str
    offsets: Sequence[int] | None

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Where `text[start:end]`, not empty, stood in the original."""
        return (start, end) if self.offsets is None else (int(self.offsets[start]), int(self.offsets[end - 1]) + 1)


def fold(text: str) -> Folded:
    """Characters become ASCII one by one where they look like it; the invisible ones go."""
    if text.isascii() or not _FOLDABLE.search(text):
        return Folded(text, None)
    shown = text.translate(_TO_ASCII)
    if not _HIDDEN.search(shown):
        return Folded(shown, None)
    codes = np.frombuffer(shown.encode("utf-32-le", "surrogatepass"), np.uint32)
    offsets: Sequence[int] = np.flatnonzero(~np.isin(codes, _HIDDEN_CODES))  # type: ignore[assignment]
    return Folded(_HIDDEN.sub("", shown), offsets)
