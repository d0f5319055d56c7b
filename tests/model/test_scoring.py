"""Scores and answers of a saved model."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
)

from tests.corpus.snapshots import conversations
from theta_ml.corpus.tokenizer import ChatTokenizer, Message, train_tokenizer
from theta_ml.model import ThetaConfig, ThetaForCausalLM
from theta_ml.model.generation import Sampling, TextStream, fit, generate_replies, generate_reply
from theta_ml.model.loading import context_length, load
from theta_ml.model.scoring import score, score_conversations, score_replies

CONVERSATIONS: list[list[Message]] = [
    [{"role": m["role"], "content": m["content"]} for m in row["messages"]] for row in conversations("2026-01", 30)
]


def theta(size: dict[str, Any]) -> PreTrainedModel:
    return ThetaForCausalLM(ThetaConfig(**size, intermediate_size=64, max_position_embeddings=64))


def gpt2(size: dict[str, Any]) -> PreTrainedModel:
    """Its embeddings are longer than the vocabulary, and its 64 positions were learned: there is no 65th."""
    model = GPT2LMHeadModel(GPT2Config(**size, n_positions=64))
    model.resize_token_embeddings(size["vocab_size"], pad_to_multiple_of=64, mean_resizing=False)
    return model


def softcapped(size: dict[str, Any]) -> PreTrainedModel:
    """What stands between the head and the logits counts too."""
    shape = {"intermediate_size": 64, "max_position_embeddings": 64, "head_dim": 16, "num_key_value_heads": 1}
    return Gemma2ForCausalLM(Gemma2Config(**(size | {"initializer_range": 0.5}), **shape, final_logit_softcapping=3.0))


@pytest.fixture(scope="module", params=[theta, gpt2, softcapped])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer((m["content"] for c in CONVERSATIONS for m in c), 600)
    tokenizer.save(folder, 64)
    torch.manual_seed(0)
    size = {
        "vocab_size": tokenizer.vocabulary,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "pad_token_id": tokenizer.pad,
        "bos_token_id": tokenizer.begin,
        "eos_token_id": tokenizer.end,
        "initializer_range": 0.2,
    }
    model = request.param(size)
    model.config.use_cache = False  # as a trainer leaves it
    model.save_pretrained(folder)
    return folder


def by_hand(model: PreTrainedModel, tokenizer: ChatTokenizer, messages: list[Message]) -> float:
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
    for scored, messages in zip(scores, short, strict=True):
        assert scored.nats == pytest.approx(by_hand(model, tokenizer, messages), rel=1e-4)
        assert scored.bytes == len(messages[1]["content"].encode())
        assert scored.tokens == len(tokenizer.turns(messages)[1].tokens) - 2


def test_scores_do_not_depend_on_the_batch_and_cover_long_conversations(folder: Path) -> None:
    long: list[Message] = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "word é " * 200}]
    every = [*CONVERSATIONS, long, [{"role": "user", "content": "only a question"}]]
    heard: list[tuple[int, int]] = []
    one = score_conversations(folder, every, lambda done, total: heard.append((done, total)))
    other = score_conversations(folder, list(reversed(every)), batch_tokens=128)[::-1]
    assert [score[1:3] for score in one] == [score[1:3] for score in other]
    assert [score.nats for score in one] == pytest.approx([score.nats for score in other], rel=1e-4)
    tokenizer = ChatTokenizer.load(folder)
    assert one[-2].tokens == len(tokenizer.turns(long)[1].tokens) - 2  # every token, though 64 fit the context
    assert one[-1] == (0.0, 0, 0, 0) and math.isfinite(one[-2].nats)
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


def test_logits_are_computed_for_what_is_scored_alone(folder: Path) -> None:
    seen = []
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: seen.append(output.shape) if isinstance(module, torch.nn.Linear) else None
    )
    with hook:
        scores = score_conversations(folder, CONVERSATIONS)
    vocabulary = load(folder, "cpu")[0].config.vocab_size
    heads = [shape for shape in seen if shape[-1] == vocabulary]
    assert sum(shape[:-1].numel() for shape in heads) == sum(score.tokens for score in scores)


def test_a_model_that_does_not_say_how_much_it_reads_is_refused() -> None:
    config = BloomConfig(vocab_size=9, hidden_size=8, n_layer=1, n_head=1)
    with pytest.raises(ValueError, match=r"no max_position_embeddings.*choose a base model"):
        context_length(BloomForCausalLM(config))


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


def test_answers_of_a_batch_are_those_of_each_alone(folder: Path) -> None:
    model, tokenizer = load(folder, "cpu")
    prompts = [conversation[:1] for conversation in CONVERSATIONS[:7]]
    alone = [generate_reply(model, tokenizer, prompt, Sampling(0, max_new_tokens=9)) for prompt in prompts]
    assert generate_replies(model, tokenizer, prompts, 9) == alone
    assert generate_replies(model, tokenizer, prompts, 9, batch_tokens=1) == alone
    assert len(set(alone)) > 1, "all alike, and an answer to the wrong prompt would not be seen"
    assert generate_replies(model, tokenizer, [], 9) == []


def test_a_reply_is_scored_alone_after_what_was_said_before(folder: Path) -> None:
    model, tokenizer = load(folder, "cpu")
    question: list[Message] = [{"role": "user", "content": "where?"}]
    told: list[Message] = [*question, {"role": "assistant", "content": "there"}, {"role": "user", "content": "ok?"}]
    (whole,) = score(model, tokenizer, [[*told, {"role": "assistant", "content": "yes — yes"}]])
    (first,) = score(model, tokenizer, [told])
    (reply,) = score_replies(model, tokenizer, [(told, "yes — yes")])
    assert reply.nats == pytest.approx(whole.nats - first.nats, rel=1e-4)
    assert (reply.bytes, reply.tokens) == (len("yes — yes".encode()), whole.tokens - first.tokens)
    long = score_replies(model, tokenizer, [(told * 9, "yes " * 200)])[0]
    assert (long.tokens, long.bytes > 0, math.isfinite(long.nats)) == (32, True, True)


def test_what_is_likeliest_counts_as_correct(folder: Path) -> None:
    model, tokenizer = load(folder, "cpu")
    short = [conversation[:2] for conversation in CONVERSATIONS]
    wanted = []
    for messages in short:
        tokens = [*tokenizer.prompt(messages[:1]), *tokenizer.turns(messages)[1].tokens[1:-1]]
        likeliest = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].argmax(-1).tolist()
        first = len(tokenizer.prompt(messages[:1]))
        wanted.append(sum(likeliest[at - 1] == tokens[at] for at in range(first, len(tokens))))
    assert sum(wanted) > 0
    assert [each.correct for each in score(model, tokenizer, short)] == wanted
