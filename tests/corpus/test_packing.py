"""Cutting on turn boundaries, and packing without loss or overlap."""

import random

import numpy as np

from theta_ml.corpus.packing import PackedPiece, best_fit, pack
from theta_ml.corpus.pieces import Piece, cut
from theta_ml.corpus.tokenizer import Turn

BEGIN, PAD = 1, 0


def turn(role: str, length: int) -> Turn:
    return Turn(role, [5, *range(10, 8 + length), 2])


def test_a_short_conversation_stays_whole_and_only_the_assistant_is_learned() -> None:
    pieces = list(cut([turn("user", 4), turn("assistant", 5)], BEGIN, 32))
    assert pieces == [Piece([BEGIN, 5, 10, 11, 2, 5, 10, 11, 12, 2], [False] * 6 + [True] * 4)]


def test_a_long_conversation_is_cut_before_what_a_user_says() -> None:
    turns = [turn("user", 6), turn("assistant", 8), turn("user", 6), turn("assistant", 8), turn("user", 6)]
    pieces = list(cut(turns, BEGIN, 24))
    assert [len(piece.tokens) for piece in pieces] == [15, 21]
    assert all(len(piece.tokens) == len(piece.learned) for piece in pieces)


def test_pieces_fit_and_keep_every_answer_that_fits() -> None:
    chance = random.Random(4)
    for _ in range(200):
        turns = [turn(chance.choice(["user", "assistant"]), chance.randint(3, 20)) for _ in range(20)]
        pieces = list(cut(turns, BEGIN, 40))
        assert all(len(piece.tokens) <= 40 for piece in pieces)
        learned = sum(sum(piece.learned) for piece in pieces)
        assert learned == sum(len(t.tokens) - 1 for t in turns if t.role == "assistant")


def test_a_turn_too_long_for_a_row_loses_its_end_and_silence_teaches_nothing() -> None:
    pieces = list(cut([turn("assistant", 100)], BEGIN, 32))
    assert [len(piece.tokens) for piece in pieces] == [32]
    assert list(cut([turn("user", 10)], BEGIN, 32)) == []


def test_packing_keeps_every_piece_once_and_tells_them_apart() -> None:
    chance = random.Random(5)
    pieces = [
        PackedPiece.of(Piece([number + 10] * length, [False] + [True] * (length - 1)))
        for number, length in enumerate(chance.randint(2, 60) for _ in range(300))
    ]
    rows = pack(pieces, 64, PAD, seed=1)
    assert sorted(rows.tokens[rows.tokens != PAD]) == sorted(int(t) for piece in pieces for t in piece.tokens)
    assert rows.learned.sum() == sum(piece.learned.sum() for piece in pieces)
    starts = rows.positions == 0
    changes = np.diff(rows.tokens.astype(int), axis=1, prepend=-1) != 0
    assert (starts == changes).all()  # a new position count exactly where another piece, or the padding, begins
    assert not rows.learned[starts].any()
    assert rows.count <= 1.05 * sum(len(piece.tokens) for piece in pieces) / 64 + 1


def test_the_same_seed_packs_the_same_bytes() -> None:
    pieces = [PackedPiece.of(Piece([9] * n, [True] * n)) for n in (5, 9, 3, 7, 7)]
    one, other = pack(pieces, 16, PAD, 3), pack(pieces, 16, PAD, 3)
    assert one.tokens.tobytes() == other.tokens.tobytes()
    assert best_fit([8, 8, 4, 4, 16], 16) == [[4], [0, 1], [2, 3]]
