"""How well a model predicts what assistants said: nats, bytes, tokens and hits for each conversation.

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
from theta_ml.model.generation import fit
from theta_ml.model.loading import context_length, load

BATCH_TOKENS = 8192


class Score(NamedTuple):
    """One conversation's assistant text under a model."""

    nats: float
    """Negative log-likelihood, summed over the tokens of the text; end tokens are not counted."""
    bytes: int
    """Length of that text in UTF-8."""
    tokens: int
    correct: int
    """Tokens that were the model's likeliest; of no worth where the loss is not finite."""


class _Row(NamedTuple):
    number: int
    """Of the conversation or reply that it is a part of."""
    tokens: list[int]
    counted: list[bool]


Progress = Callable[[int, int], None]
"""Hears (tokens done, tokens in all)."""


def score_conversations(
    model_dir: Path,
    conversations: Sequence[Sequence[Message]],
    progress: Progress | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> list[Score]:
    """A score for each conversation under a saved model, in their order (see `score`)."""
    return score(*load(model_dir), conversations, progress, batch_tokens)


def score(
    model: PreTrainedModel,
    tokenizer: ChatTokenizer,
    conversations: Sequence[Sequence[Message]],
    progress: Progress | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> list[Score]:
    """A score for each conversation, in their order.

    Every turn is scored: a conversation longer than the model's context is cut on turn boundaries (`corpus.pieces`),
    and a single turn longer than it is split, each part predicted from what stands before it in that part.
    """
    context = context_length(model)
    rows = [
        _Row(number, piece.tokens, _counted(piece, tokenizer.end))
        for number, messages in enumerate(conversations)
        for piece in _pieces(messages, tokenizer, context)
    ]
    return _scores(model, tokenizer.pad, rows, list(map(_spoken_bytes, conversations)), progress, batch_tokens)


def score_replies(
    model: PreTrainedModel, tokenizer: ChatTokenizer, replies: Sequence[tuple[Sequence[Message], str]]
) -> list[Score]:
    """A score for each reply to the messages before it, in their order; of the reply alone, whatever else was said.

    Where both do not fit the model's context the prompt loses its beginning, and a reply of more than half of the
    context its end: both replies of a pair are then cut alike.
    """
    context = context_length(model)
    rows, sizes = [], []
    for number, (prompt, reply) in enumerate(replies):
        said = tokenizer.tokenizer.encode(reply, add_special_tokens=False).ids[: context // 2]
        before = fit(tokenizer, prompt, context - len(said))
        rows.append(_Row(number, before + said, [False] * len(before) + [True] * len(said)))
        sizes.append(len(tokenizer.tokenizer.decode(said).encode()))
    return _scores(model, tokenizer.pad, rows, sizes, None, BATCH_TOKENS)


def _scores(
    model: PreTrainedModel,
    pad: int,
    rows: Sequence[_Row],
    sizes: Sequence[int],
    progress: Progress | None,
    batch_tokens: int,
) -> list[Score]:
    """One score for each of `sizes`, the bytes of what is scored."""
    nats, tokens, correct = [0.0] * len(sizes), [0] * len(sizes), [0] * len(sizes)
    done, total = 0, sum(len(row.tokens) for row in rows)
    for batch in _batches(rows, batch_tokens):
        for row, loss, hits in zip(batch, *_predicted(model, batch, pad), strict=True):
            nats[row.number] += loss
            tokens[row.number] += sum(row.counted)
            correct[row.number] += hits
        done += sum(len(row.tokens) for row in batch)
        if progress:
            progress(done, total)
    return [Score(*numbers) for numbers in zip(nats, sizes, tokens, correct, strict=True)]


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
def _predicted(model: PreTrainedModel, batch: Sequence[_Row], pad: int) -> tuple[list[float], list[int]]:
    """Loss of each row, in nats, and its counted tokens that were the likeliest.

    Padding stands at the right, where causal attention never looks.
    """
    width = max(len(row.tokens) for row in batch)
    tokens = torch.tensor([row.tokens + [pad] * (width - len(row.tokens)) for row in batch], device=model.device)
    counted = torch.tensor([row.counted + [False] * (width - len(row.tokens)) for row in batch], device=model.device)
    wanted = functional.pad(counted[:, 1:], (0, 1))  # the places from which a counted token is predicted
    logits: Tensor = model(input_ids=tokens, use_cache=False, logits_to_keep=wanted).logits  # (counted, vocabulary)
    if logits.shape[:-1] != (int(wanted.sum()),):
        raise ValueError(f"{type(model).__name__} takes no mask as logits_to_keep; choose another base model")
    targets = tokens[:, 1:][counted[:, 1:]]
    losses = functional.cross_entropy(logits.float(), targets, reduction="none").double()
    hits = (logits.argmax(-1) == targets).double()
    rows = wanted.nonzero()[:, 0]
    sums = torch.zeros(2, len(batch), dtype=torch.double, device=model.device)
    nats, correct = sums.index_add_(1, rows, torch.stack([losses, hits])).tolist()
    return nats, [int(number) for number in correct]
