"""Conversations cut on turn boundaries, so that each piece fits the model's context.

Every token that an assistant says is learned in exactly one piece. A piece that goes on with a conversation starts with
the turns before it, as context that bears no loss.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from theta_ml.corpus.tokenizer import Turn

CONTEXT_SHARE = 8
"""A continued piece repeats at most one in so many of its tokens."""


@dataclass(frozen=True)
class Piece:
    """A part of a conversation that stands by itself: `<|begin|>` and whole turns."""

    tokens: list[int]
    learned: list[bool]
    """True where the token bears loss: what the assistant says and its end token."""


class Part(NamedTuple):
    """Tokens `start` to `stop` of a turn; where `start` is not 0, the turn's role token goes before them."""

    turn: int
    start: int
    stop: int
    new: bool
    """False where it is there as context only."""

    @property
    def length(self) -> int:
        return self.stop - self.start + (self.start > 0)


def parts(lengths: Sequence[int], users: Sequence[bool], max_length: int) -> Iterator[list[Part]]:
    """What each piece of a conversation holds after its `<|begin|>`; `users` says which turns are a user's.

    A piece ends before a user's turn where it can, so that answers keep their question. Only a single turn that is too
    long for a piece is cut inside.
    """
    room = max_length - 1  # for <|begin|>
    turns = [part for turn, length in enumerate(lengths) for part in _split(turn, length, room)]
    opens = [_opens(turns, users, at) for at in range(len(turns))]
    ends = [0, *accumulate(part.length for part in turns)]
    first = 0
    while first < len(turns):
        allowed = min(room // CONTEXT_SHARE, room - turns[first].length)
        context = _context(ends, opens, first, allowed)
        last = _last(ends, opens, first, ends[context] + room)
        yield [part._replace(new=False) for part in turns[context:first]] + turns[first:last]
        first = last


def cut(turns: Sequence[Turn], begin: int, max_length: int) -> Iterator[Piece]:
    """Pieces of at most `max_length` tokens in which the assistant says something."""
    lengths, users = [len(turn.tokens) for turn in turns], [turn.role == "user" for turn in turns]
    for chosen in parts(lengths, users, max_length):
        tokens, learned = [begin], [False]
        for part in chosen:
            turn = turns[part.turn]
            tokens += turn.tokens[:1] + turn.tokens[max(part.start, 1) : part.stop]
            learned += [False] + [part.new and turn.learned] * (part.length - 1)  # the role is given, never guessed
        if any(learned):
            yield Piece(tokens, learned)


def _split(turn: int, length: int, room: int) -> Iterator[Part]:
    yield Part(turn, 0, min(length, room), new=True)
    for start in range(room, length, room - 1):  # one less: the role token is repeated
        yield Part(turn, start, min(length, start + room - 1), new=True)


def _opens(turns: Sequence[Part], users: Sequence[bool], at: int) -> bool:
    """Whether a user begins to speak here, after somebody else or nobody."""
    return turns[at].start == 0 and users[turns[at].turn] and (at == 0 or not users[turns[at - 1].turn])


def _context(ends: Sequence[int], opens: Sequence[bool], first: int, allowed: int) -> int:
    """Where the context before `first` starts: as early as is allowed, with a user's turn where there is one."""
    earliest = first
    while earliest > 0 and ends[first] - ends[earliest - 1] <= allowed:
        earliest -= 1
    return next((at for at in range(earliest, first) if opens[at]), earliest)


def _last(ends: Sequence[int], opens: Sequence[bool], first: int, limit: int) -> int:
    """The end of what fits after `first`, moved back to where a user begins to speak."""
    last = first + 1
    while last < len(opens) and ends[last + 1] <= limit:
        last += 1
    if last == len(opens):
        return last
    return next((at for at in range(last, first, -1) if opens[at]), last)
