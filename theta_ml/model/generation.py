"""Answers from a model: whole, or token by token."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.generation.streamers import BaseStreamer

from theta_ml.corpus.tokenizer import ChatTokenizer, Message
from theta_ml.model.loading import context_length

BATCH_TOKENS = 8192
"""Of prompts, their padding and their answers in one batch; a tiny model's cache of them takes 40 MB."""


@dataclass(frozen=True)
class Sampling:
    """Nucleus sampling (Holtzman et al. 2020, arXiv:1904.09751)."""

    temperature: float = 0.8
    """0 takes the likeliest token each time."""
    top_p: float = 0.95
    """Share of the probability that the candidates for a token make up."""
    max_new_tokens: int = 128
    seed: int | None = None
    """The same seed gives the same answer."""

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}: choose 0 (no chance) or more, for example 0.8")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}: choose more than 0 and at most 1, for example 0.95")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}: choose at least 1")


def generate_reply(
    model: PreTrainedModel,
    tokenizer: ChatTokenizer,
    messages: Sequence[Message],
    sampling: Sampling | None = None,
    streamer: BaseStreamer | None = None,
) -> str:
    """The assistant's next answer to `messages`, as plain text.

    Old turns are forgotten from the front where the prompt and the answer would not fit the model's context.
    """
    sampling = sampling or Sampling()
    prompt = fit(tokenizer, messages, context_length(model) - sampling.max_new_tokens)
    if sampling.seed is not None:
        torch.manual_seed(sampling.seed)
    (answer,) = generate_tokens(model, tokenizer, [prompt], sampling, streamer=streamer)
    return decode(tokenizer, answer)


def generate_replies(
    model: PreTrainedModel,
    tokenizer: ChatTokenizer,
    prompts: Sequence[Sequence[Message]],
    max_new_tokens: int,
    batch_tokens: int = BATCH_TOKENS,
) -> list[str]:
    """The likeliest next answer to each prompt, in their order, as plain text; many at a time.

    A batch holds at most `batch_tokens`, padding and answers included. Long prompts are cut as in `generate_reply`.
    """
    greedy = Sampling(temperature=0, max_new_tokens=max_new_tokens)
    fitted = [fit(tokenizer, prompt, context_length(model) - max_new_tokens) for prompt in prompts]
    order = sorted(range(len(fitted)), key=lambda number: -len(fitted[number]))
    replies = [""] * len(fitted)
    while order:
        most = max(1, batch_tokens // (len(fitted[order[0]]) + max_new_tokens))  # the longest, at the front
        batch, order = order[:most], order[most:]
        answers = generate_tokens(model, tokenizer, [fitted[number] for number in batch], greedy)
        for number, answer in zip(batch, answers, strict=True):
            replies[number] = decode(tokenizer, answer)
    return replies


@torch.inference_mode()
def generate_tokens(
    model: PreTrainedModel,
    tokenizer: ChatTokenizer,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    min_new_tokens: int = 1,
    streamer: BaseStreamer | None = None,
) -> list[list[int]]:
    """Token ids of the answer to each prompt, of one batch: its end token, and padding after it, may stand at its end.

    Padding stands at the left of the prompts, so that all answers begin at the same place.
    """
    width = max(map(len, prompts))
    ids = torch.tensor([[tokenizer.pad] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    output = model.generate(  # type: ignore[operator]  # of GenerationMixin, which every causal model has
        ids.to(model.device),
        attention_mask=mask.to(model.device),
        max_new_tokens=sampling.max_new_tokens,
        min_new_tokens=min_new_tokens,
        use_cache=True,  # training turns it off, and a model that it saved may say so
        eos_token_id=tokenizer.end,
        pad_token_id=tokenizer.pad,
        suppress_tokens=_unspoken(model, tokenizer),
        streamer=streamer,
        **_choice(sampling),
    )
    answers: list[list[int]] = output[:, width:].tolist()
    return answers


def _unspoken(model: PreTrainedModel, tokenizer: ChatTokenizer) -> list[int]:
    """The model never speaks for another, nor in ids that pad its embeddings to a round number."""
    padding = range(tokenizer.vocabulary, model.config.vocab_size)
    return [tokenizer.begin, tokenizer.pad, *tokenizer.roles.values(), *padding]


def _choice(sampling: Sampling) -> dict[str, Any]:
    if sampling.temperature == 0:
        return {"do_sample": False}
    return {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}


def fit(tokenizer: ChatTokenizer, messages: Sequence[Message], room: int) -> list[int]:
    """The newest messages' prompt of at most `room` tokens; the last message loses its start if it alone is longer."""
    room = max(room, 8)
    kept = list(messages)
    prompt = tokenizer.prompt(kept)
    while len(prompt) > room and len(kept) > 1:
        kept = kept[1:]
        prompt = tokenizer.prompt(kept)
    return prompt if len(prompt) <= room else prompt[:2] + prompt[len(prompt) - (room - 2) :]


def decode(tokenizer: ChatTokenizer, tokens: Sequence[int]) -> str:
    """Text of an answer, without control tokens."""
    return str(tokenizer.tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()


class TextStream(BaseStreamer):
    """Hands on an answer's text as it grows, never a part of a character."""

    def __init__(self, tokenizer: ChatTokenizer, write: Callable[[str], None]) -> None:
        self._tokenizer, self._write = tokenizer, write
        self._tokens: list[int] = []
        self._written = 0
        self._prompt = True

    def put(self, value: Tensor) -> None:
        if self._prompt:  # the first thing that `generate` hands over
            self._prompt = False
            return
        self._tokens += value.flatten().tolist()
        text = decode(self._tokenizer, self._tokens)
        if not text.endswith("\ufffd"):  # bytes of a character that is not whole yet
            self._flush(text)

    def end(self) -> None:
        self._flush(decode(self._tokenizer, self._tokens))

    def _flush(self, text: str) -> None:
        self._write(text[self._written :])
        self._written = max(self._written, len(text))
