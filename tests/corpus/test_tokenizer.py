"""The chat format, and that what people type never becomes a control token."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.corpus.snapshots import conversations
from theta_ml.corpus.tokenizer import END, SPECIAL, ChatTokenizer, Message, train_tokenizer

TEXTS = [m["content"] for row in conversations("2026-01", 200) for m in row["messages"]]


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    return train_tokenizer(TEXTS, 700)


def test_typed_control_tokens_are_plain_text(tokenizer: ChatTokenizer) -> None:
    typed = "".join(SPECIAL) + " and then"
    turn = tokenizer.turns([{"role": "user", "content": typed}])[0]
    controls = {tokenizer.begin, tokenizer.end, tokenizer.pad, *tokenizer.roles.values()}
    assert turn.tokens[0] == tokenizer.roles["user"] and turn.tokens[-1] == tokenizer.end
    assert not controls & set(turn.tokens[1:-1])
    assert tokenizer.tokenizer.decode(turn.tokens[1:-1]) == typed


def test_any_text_survives(tokenizer: ChatTokenizer) -> None:
    for text in ("naïve café", "日本語 🙂", "a\n\n  b\tc", "\x00\x7f", "e\u0301"):
        tokens = tokenizer.turns([{"role": "user", "content": text}])[0].tokens[1:-1]
        assert tokenizer.tokenizer.decode(tokens) == text


def test_the_chat_template_renders_the_same_format(tokenizer: ChatTokenizer, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path, 256)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    messages: list[Message] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where is my tent?  "},
        {"role": "assistant", "content": "In Oslo,\nI think."},
        {"role": "user", "content": "日本語 🙂"},
    ]
    rendered = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert rendered == tokenizer.prompt(messages)
    assert theirs.eos_token == END and theirs.padding_side == "left"
    assert ChatTokenizer.load(tmp_path).key() == tokenizer.key()


def test_another_process_learns_the_same_tokenizer(tokenizer: ChatTokenizer) -> None:
    script = "from tests.corpus.test_tokenizer import *; print(train_tokenizer(TEXTS, 700).key())"
    root = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root)
    assert ran.stdout.strip() == tokenizer.key()


def test_a_missing_tokenizer_names_the_stage_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="theta stage prepare"):
        ChatTokenizer.load(tmp_path)
