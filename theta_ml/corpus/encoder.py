"""Batches of conversations as tokens, in one call each: the tokenizer of `tokenizer.json`, run by tiktoken.

The output is that of the Hugging Face tokenizer, token for token. Encoding is most of a corpus' work, and
tiktoken does it several times faster. A base model's tokenizer of another kind is run by its own library.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
import tiktoken
from numpy.typing import NDArray
from tokenizers.pre_tokenizers import ByteLevel

from theta_ml.corpus.arrays import Tokens, token_type
from theta_ml.corpus.batch import Batch
from theta_ml.corpus.tokenizer import END, ROLES, SPECIAL, WORDS, ChatTokenizer

MARKERS = {ROLES["system"]: "\x01", ROLES["user"]: "\x02", ROLES["assistant"]: "\x03", END: "\x04"}
"""Stand for control tokens in the text that is encoded. Cleaned content holds no such character, so what somebody typed
can never become a control token, whatever it looks like."""


@dataclass(frozen=True)
class Encoded:
    """The messages of a batch, one after the other; each is its role token, its content and an end token."""

    tokens: Tokens
    """(tokens,)"""
    starts: NDArray[np.int64]
    """(messages + 1,): message i is tokens[starts[i]:starts[i + 1]]."""
    assistant: NDArray[np.bool_]
    """(messages,)"""
    user: NDArray[np.bool_]
    """(messages,)"""

    @property
    def learned(self) -> NDArray[np.bool_]:
        """(tokens,): what the assistant says and its end token; its role token is given, never guessed."""
        learned = np.repeat(self.assistant, np.diff(self.starts))
        learned[self.starts[:-1]] = False
        return learned


class Encoder:
    """Encodes batches as `ChatTokenizer.turns` encodes messages."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self.tokenizer = tokenizer
        self.token_type = token_type(tokenizer.vocabulary)
        self._encoding = _by_tiktoken(tokenizer) if tokenizer.trained_here() else None
        self._specials = frozenset(MARKERS.values())

    def encode(self, batch: Batch) -> Encoded:
        """Raises ValueError where content holds a marker: it was not cleaned."""
        if self._encoding is None:
            return self._encode_by_its_library(batch.messages)
        messages = batch.messages
        marks = {role: MARKERS[token] for role, token in ROLES.items()}
        texts = pl.concat_str(pl.col("role").replace_strict(marks), "content", pl.lit(MARKERS[END]))
        text = messages.select(texts.str.join("")).item() if len(messages) else ""
        tokens = self._encoding.encode_to_numpy(text, allowed_special=self._specials, disallowed_special=())
        return self._split(tokens.astype(self.token_type), messages["role"])

    def _encode_by_its_library(self, messages: pl.DataFrame) -> Encoded:
        contents, roles = messages["content"].to_list(), messages["role"].to_list()
        turns = self.tokenizer.turns([{"role": r, "content": c} for r, c in zip(roles, contents, strict=True)])
        starts = np.cumsum([0, *(len(turn.tokens) for turn in turns)], dtype=np.int64)
        tokens = np.fromiter((t for turn in turns for t in turn.tokens), self.token_type, int(starts[-1]))
        said = np.array([self.tokenizer.roles[role] for role in roles], np.int64)
        ids = self.tokenizer.roles
        return Encoded(tokens, starts, said == ids["assistant"], said == ids["user"])

    def _split(self, tokens: Tokens, roles: pl.Series) -> Encoded:
        ids = self.tokenizer.roles
        starts = np.flatnonzero(np.isin(tokens, list(ids.values())))
        if len(starts) != len(roles) or int((tokens == self.tokenizer.end).sum()) != len(roles):
            raise ValueError("a message holds one of the characters U+0001 to U+0004: clean it before it is encoded")
        said = tokens[starts]
        return Encoded(tokens, np.append(starts, len(tokens)), said == ids["assistant"], said == ids["user"])


def _by_tiktoken(tokenizer: ChatTokenizer) -> tiktoken.Encoding:
    vocabulary = tokenizer.tokenizer.get_vocab()
    return tiktoken.Encoding(
        name="theta",
        pat_str=WORDS,
        mergeable_ranks={_bytes(token): rank for token, rank in vocabulary.items() if token not in SPECIAL},
        special_tokens={marker: vocabulary[token] for token, marker in MARKERS.items()},
    )


def _alphabet() -> dict[str, int]:
    """Byte-level BPE writes each byte as a printable character: that character's byte."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    alphabet = {chr(byte): byte for byte in shown} | {chr(256 + n): byte for n, byte in enumerate(hidden)}
    assert set(alphabet) == set(ByteLevel.alphabet())
    return alphabet


_BYTES = _alphabet()


def _bytes(token: str) -> bytes:
    return bytes(_BYTES[character] for character in token)
