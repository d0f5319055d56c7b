"""How well a saved model predicts what assistants said: nats, bytes and tokens for each conversation.

Bits per byte is nats / (bytes · ln 2), which compares models with different tokenizers.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from theta_ml.corpus.pieces import Piece, cut
from theta_ml.corpus.tokenizer import ChatTokenizer, Message
from theta_ml.model.loading import context_length, load

BATCH_TOKENS = 8192


class Score(NamedTuple):
    """One conversation's assistant text under a model."""

    nats: float
    """Negative log-likelihood, summed over the tokens of the text; end tokens are not counted."""
    bytes: int
    """Length of that text in UTF-8."""
    tokens: int


class _Row(NamedTuple):
    conversation: int
    tokens: list[int]
    counted: list[bool]


def score_conversations(
    model_dir: Path,
    conversations: Sequence[Sequence[Message]],
    progress: Callable[[int, int], None] | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> list[Score]:
    """A score for each conversation, in their order. `progress` hears (tokens done, tokens in all).

    Every turn is scored: a conversation longer than the model's context is cut on turn boundaries (`corpus.pieces`),
    and a single turn longer than it is split, each part predicted from what stands before it in that part.
    """
    model, tokenizer = load(model_dir)
    context = context_length(model)
    rows = [
        _Row(number, piece.tokens, _counted(piece, tokenizer.end))
        for number, messages in enumerate(conversations)
        for piece in _pieces(messages, tokenizer, context)
    ]
    nats, tokens = [0.0] * len(conversations), [0] * len(conversations)
    done, total = 0, sum(len(row.tokens) for row in rows)
    for batch in _batches(rows, batch_tokens):
        for row, loss in zip(batch, _nats(model, batch, tokenizer.pad), strict=True):
            nats[row.conversation] += loss
            tokens[row.conversation] += sum(row.counted)
        done += sum(len(row.tokens) for row in batch)
        if progress:
            progress(done, total)
    return [Score(*numbers) for numbers in zip(nats, map(_spoken_bytes, conversations), tokens, strict=True)]


def _pieces(messages: Sequence[Message], tokenizer: ChatTokenizer, context: int) -> Iterator[Piece]:
    return cut(tokenizer.turns(messages), tokenizer.begin, context)


def _counted(piece: Piece, end: int) -> list[bool]:
    return [learned and token != end for token, learned in zip(piece.tokens, piece.learned, strict=True)]


def _spoken_bytes(messages: Sequence[Message]) -> int:
    return sum(len(message["content"].encode()) for message in messages if message["role"] == "assistant")


def _batches(rows: Sequence[_Row], batch_tokens: int) -> Iterator[list[_Row]]:
    """Rows of like length together, at most `batch_tokens` a batch with their padding."""
    batch: list[_Row] = []
    for row in sorted(rows, key=lambda row: -len(row.tokens)):  # the longest, at the front, sets the width
        if batch and (len(batch) + 1) * len(batch[0].tokens) > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


@torch.inference_mode()
def _nats(model: PreTrainedModel, batch: Sequence[_Row], pad: int) -> list[float]:
    """Loss of each row, in nats. Padding stands at the right, where causal attention never looks."""
    width = max(len(row.tokens) for row in batch)
    tokens = torch.tensor([row.tokens + [pad] * (width - len(row.tokens)) for row in batch], device=model.device)
    counted = torch.tensor([row.counted + [False] * (width - len(row.tokens)) for row in batch], device=model.device)
    wanted = functional.pad(counted[:, 1:], (0, 1))  # the places from which a counted token is predicted
    logits: Tensor = model(input_ids=tokens, use_cache=False, logits_to_keep=wanted).logits  # (counted, vocabulary)
    if logits.shape[:-1] != (int(wanted.sum()),):
        raise ValueError(f"{type(model).__name__} takes no mask as logits_to_keep; choose another base model")
    losses = functional.cross_entropy(logits.float(), tokens[:, 1:][counted[:, 1:]], reduction="none").double()
    rows = wanted.nonzero()[:, 0]
    sums = torch.zeros(len(batch), dtype=torch.double, device=model.device).index_add_(0, rows, losses)
    return [float(value) for value in sums.tolist()]
