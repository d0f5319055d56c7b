"""`theta chat`, with a champion trained by nobody: it babbles, but it must do so properly."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from tests.corpus.snapshots import conversations, write_artifact
from theta_ml.champion import Champion
from theta_ml.corpus.tokenizer import train_tokenizer
from theta_ml.model import ThetaConfig, ThetaForCausalLM
from theta_ml.registry import champion as registry
from theta_ml.serving.commands import chat
from theta_ml.settings import load_settings
from theta_ml.store import Store


@pytest.fixture
def champion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Champion:
    monkeypatch.setenv("THETA_HOME", str(tmp_path))
    settings = load_settings()
    store = Store(settings.artifacts, settings.home / "cache")
    uri = write_artifact(store, "train", {"preset": "tiny"}, "k")
    folder = store.open(uri).path / "model"
    tokenizer = train_tokenizer((m["content"] for row in conversations("2026-01", 50) for m in row["messages"]), 600)
    tokenizer.save(folder, 64)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = ThetaConfig(vocab_size=tokenizer.vocabulary, max_position_embeddings=64, **shape)
    ThetaForCausalLM(config).save_pretrained(folder)
    made = Champion(4, "2026-01", "k", uri)
    monkeypatch.setattr(registry, "in_service", lambda settings: made)
    return made


def ask(*arguments: str, said: str = "") -> Result:
    return CliRunner().invoke(chat, list(arguments), input=said)


def test_a_question_is_answered_and_a_seed_repeats_the_answer(champion: Champion) -> None:
    one = ask("Where is my tent?", "--seed", "1", "--max-tokens", "20")
    assert one.exit_code == 0 and one.stdout.strip() and "<|" not in one.stdout
    assert "champion v4, trained up to 2026-01" in one.stderr
    assert ask("Where is my tent?", "--seed", "1", "--max-tokens", "20").stdout == one.stdout


def test_a_conversation_ends_with_the_input(champion: Champion) -> None:
    result = ask("--seed", "1", "--max-tokens", "5", said="Hello\nAnd now?\n")
    assert result.exit_code == 0 and len(result.stdout.splitlines()) >= 2


def test_sampling_that_makes_no_sense_is_a_usage_error(champion: Champion) -> None:
    result = ask("Hello", "--top-p", "3")
    assert result.exit_code == 2 and "choose more than 0 and at most 1" in result.stderr


def test_without_a_champion_it_says_how_to_get_one(champion: Champion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "in_service", lambda settings: None)
    result = ask("Hello")
    assert result.exit_code == 1 and "theta retrain --month YYYY-MM --bootstrap" in result.stderr
