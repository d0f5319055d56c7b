"""Scores and answers of a saved model."""

import math
from pathlib import Path

import pytest
import torch

from tests.corpus.snapshots import conversations
from theta_ml.corpus.tokenizer import ChatTokenizer, Message, train_tokenizer
from theta_ml.model import ThetaConfig, ThetaForCausalLM
from theta_ml.model.generation import Sampling, TextStream, fit, generate_reply
from theta_ml.model.loading import load
from theta_ml.model.scoring import score_conversations

CONVERSATIONS: list[list[Message]] = [
    [{"role": m["role"], "content": m["content"]} for m in row["messages"]] for row in conversations("2026-01", 30)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer((m["content"] for c in CONVERSATIONS for m in c), 600)
    tokenizer.save(folder, 64)
    torch.manual_seed(0)
    config = ThetaConfig(
        vocab_size=tokenizer.vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad,
        bos_token_id=tokenizer.begin,
        eos_token_id=tokenizer.end,
        initializer_range=0.2,
    )
    ThetaForCausalLM(config).save_pretrained(folder)
    return folder


def by_hand(model: ThetaForCausalLM, tokenizer: ChatTokenizer, messages: list[Message]) -> float:
    """Nats of the assistant's text, one conversation in one piece."""
    tokens, counted = [tokenizer.begin], [False]
    for turn in tokenizer.turns(messages):
        tokens += turn.tokens
        counted += [turn.role == "assistant" and token not in (turn.tokens[0], tokenizer.end) for token in turn.tokens]
    losses = -model(torch.tensor([tokens])).logits[0].log_softmax(-1)
    return sum(float(losses[i, token]) for i, token in enumerate(tokens[1:]) if counted[i + 1])


def test_a_score_is_the_likelihood_of_what_the_assistant_says(folder: Path) -> None:
    model, tokenizer = load(folder, "cpu")
    short = [conversation[:2] for conversation in CONVERSATIONS]
    scores = score_conversations(folder, short, batch_tokens=300)
    for score, messages in zip(scores, short, strict=True):
        assert score.nats == pytest.approx(by_hand(model, tokenizer, messages), rel=1e-4)
        assert score.bytes == len(messages[1]["content"].encode())
        assert score.tokens == len(tokenizer.turns(messages)[1].tokens) - 2


def test_scores_do_not_depend_on_the_batch_and_cover_long_conversations(folder: Path) -> None:
    long: list[Message] = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "word é " * 200}]
    every = [*CONVERSATIONS, long, [{"role": "user", "content": "only a question"}]]
    heard: list[tuple[int, int]] = []
    one = score_conversations(folder, every, lambda done, total: heard.append((done, total)))
    other = score_conversations(folder, list(reversed(every)), batch_tokens=128)[::-1]
    assert [score[1:] for score in one] == [score[1:] for score in other]
    assert [score.nats for score in one] == pytest.approx([score.nats for score in other], rel=1e-4)
    tokenizer = ChatTokenizer.load(folder)
    assert one[-2].tokens == len(tokenizer.turns(long)[1].tokens) - 2  # every token, though 64 fit the context
    assert one[-1] == (0.0, 0, 0) and math.isfinite(one[-2].nats)
    assert heard[-1][0] == heard[-1][1]


def test_answers_are_streamed_and_repeat_under_a_seed(folder: Path) -> None:
    model, tokenizer = load(folder, "cpu")
    question: list[Message] = [{"role": "user", "content": "Where is my tent?"}]
    parts: list[str] = []
    sampling = Sampling(max_new_tokens=30, seed=3)
    reply = generate_reply(model, tokenizer, question, sampling, TextStream(tokenizer, parts.append))
    assert reply and "".join(parts) == reply
    assert "<|" not in reply
    assert generate_reply(model, tokenizer, question, sampling) == reply


def test_old_turns_are_forgotten_where_the_context_is_full(folder: Path) -> None:
    tokenizer = ChatTokenizer.load(folder)
    many = CONVERSATIONS[0] * 5
    prompt = fit(tokenizer, many, 60)
    assert len(prompt) <= 60
    assert prompt[0] == tokenizer.begin and prompt[-1] == tokenizer.roles["assistant"]
    assert len(fit(tokenizer, [{"role": "user", "content": "word " * 300}], 60)) == 60


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_p": 0.0}, {"max_new_tokens": 0}])
def test_sampling_that_makes_no_sense_says_what_to_choose(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="choose"):
        Sampling(**wrong)  # type: ignore[arg-type]
