"""Conversations cut on turn boundaries: every answer learned once, with what stood before it."""

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from theta_ml.corpus.cutting import cut_batch
from theta_ml.corpus.encoder import Encoded
from theta_ml.corpus.pieces import CONTEXT_SHARE, Piece, cut, parts
from theta_ml.corpus.tokenizer import Turn

BEGIN, END, ROLE = 1, 2, {"system": 3, "user": 4, "assistant": 5}

turn_of = st.tuples(st.sampled_from(list(ROLE)), st.integers(0, 90))
conversation_of = st.lists(turn_of, min_size=1, max_size=30)


def turn(role: str, content: int) -> Turn:
    """A turn whose content is so many tokens, which count up."""
    return Turn(role, [ROLE[role], *range(10, 10 + content), END])


def test_a_short_conversation_stays_whole_and_only_the_assistant_is_learned() -> None:
    pieces = list(cut([turn("user", 2), turn("assistant", 3)], BEGIN, 32))
    assert pieces == [Piece([1, 4, 10, 11, 2, 5, 10, 11, 12, 2], [False] * 6 + [True] * 4)]


def test_a_long_one_goes_on_with_the_exchange_before_as_context() -> None:
    exchange = [turn("user", 4), turn("assistant", 6)]
    first, *rest = cut(exchange * 9, BEGIN, 129)
    assert len(first.tokens) == 127 and sum(first.learned) == 63  # nine exchanges of 14, of which 7 are learned
    assert not rest
    first, second = cut(exchange * 12, BEGIN, 129)
    context = len(exchange[0].tokens) + len(exchange[1].tokens)
    assert len(first.tokens) == 127 and second.tokens[1] == ROLE["user"]
    assert len(second.tokens) == 1 + context + 3 * 14 and not any(second.learned[: 1 + context])


def test_a_piece_ends_before_what_a_user_says() -> None:
    turns = [turn("user", 4), turn("assistant", 6), turn("user", 4), turn("assistant", 6), turn("user", 4)]
    pieces = list(parts([len(t.tokens) for t in turns], [t.role == "user" for t in turns], 24))
    assert [[part.turn for part in piece] for piece in pieces] == [[0, 1], [2, 3, 4]]


@given(conversation_of, st.integers(32, 200))
def test_pieces_fit_and_every_answer_is_learned_once(said: list[tuple[str, int]], max_length: int) -> None:
    turns = [turn(*each) for each in said]
    new = [0] * len(turns)
    for piece in parts([len(t.tokens) for t in turns], [t.role == "user" for t in turns], max_length):
        length = 1 + sum(part.length for part in piece)
        assert length <= max_length
        assert sum(part.length for part in piece if not part.new) <= max_length // CONTEXT_SHARE
        assert [part.turn for part in piece] == sorted(part.turn for part in piece)
        for part in piece:
            new[part.turn] += (part.stop - part.start) if part.new else 0
    assert new == [len(t.tokens) for t in turns]


@given(st.lists(conversation_of, min_size=1, max_size=6), st.integers(32, 120))
def test_a_batch_is_cut_as_its_conversations_are(said: list[list[tuple[str, int]]], max_length: int) -> None:
    conversations = [[turn(*each) for each in turns] for turns in said]
    flat = [each for turns in conversations for each in turns]
    lengths = [len(each.tokens) for each in flat]
    encoded = Encoded(
        np.array([token for each in flat for token in each.tokens], np.uint16),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.array([each.role == "assistant" for each in flat]),
        np.array([each.role == "user" for each in flat]),
    )
    owner = np.repeat(np.arange(len(said), dtype=np.uint32) * 3, [len(turns) for turns in said])
    pieces = cut_batch(encoded, owner, BEGIN, max_length)
    expected = [(3 * n, piece) for n, turns in enumerate(conversations) for piece in cut(turns, BEGIN, max_length)]
    assert pieces.conversation.tolist() == [number for number, _ in expected]
    assert pieces.tokens.tolist() == [token for _, piece in expected for token in piece.tokens]
    assert pieces.learned.tolist() == [learned for _, piece in expected for learned in piece.learned]
    assert pieces.loss_tokens.tolist() == [sum(piece.learned) for _, piece in expected]


def test_an_empty_batch_gives_no_piece() -> None:
    empty = Encoded(np.zeros(0, np.uint16), np.zeros(1, np.int64), np.zeros(0, bool), np.zeros(0, bool))
    pieces = cut_batch(empty, pl.Series([], dtype=pl.UInt32).to_numpy(), BEGIN, 64)
    assert len(pieces.conversation) == 0 and len(pieces.tokens) == 0
