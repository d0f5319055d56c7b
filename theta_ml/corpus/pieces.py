"""Conversations cut on turn boundaries, so that each piece fits the model's context."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from theta_ml.corpus.tokenizer import Turn


@dataclass(frozen=True)
class Piece:
    """A part of a conversation that stands by itself: `<|begin|>` and whole turns."""

    tokens: list[int]
    learned: list[bool]
    """True where the token bears loss: what the assistant says and its end token."""


def cut(turns: Sequence[Turn], begin: int, max_length: int) -> Iterator[Piece]:
    """Pieces of at most `max_length` tokens in which the assistant says something.

    A piece starts with a user's turn where it can, so that answers keep their question; only a single exchange that is
    too long is cut between other turns, and only a single turn that is too long loses its end.
    """
    current: list[Turn] = []
    room = max_length - 1  # for <|begin|>
    for group in _exchanges(turns, room):
        if current and _length(current) + _length(group) > room:
            yield from _piece(current, begin)
            current = []
        current = current + group
    yield from _piece(current, begin)


def _exchanges(turns: Sequence[Turn], room: int) -> Iterator[list[Turn]]:
    """Runs of turns that start with what a user says after somebody else; each fits `room` tokens."""
    group: list[Turn] = []
    for turn in turns:
        starts = turn.role == "user" and any(earlier.role != "user" for earlier in group)
        if group and (starts or _length(group) + len(turn.tokens) > room):
            yield group
            group = []
        group = [*group, Turn(turn.role, turn.tokens[:room])]
    if group:
        yield group


def _piece(turns: Sequence[Turn], begin: int) -> Iterator[Piece]:
    if not any(turn.learned for turn in turns):
        return
    tokens, learned = [begin], [False]
    for turn in turns:
        tokens += turn.tokens
        learned += [False] + [turn.learned] * (len(turn.tokens) - 1)  # the role token is given, never guessed
    yield Piece(tokens, learned)


def _length(turns: Sequence[Turn]) -> int:
    return sum(len(turn.tokens) for turn in turns)
