"""Corpora for a base model of others: its tokenizer, its context, and what a recipe chooses."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from tests.corpus.bases import TEXTS, gpt2_tokenizer, unigram_tokenizer, write_gpt2
from tests.corpus.snapshots import conversations, passed_checks, write_artifact, write_snapshot
from theta_ml.champion import Champion
from theta_ml.corpus.batch import MESSAGES, Batch
from theta_ml.corpus.encoder import Encoder
from theta_ml.corpus.prepare import STAGE, PackedCorpus, PrepareSpec, open_rows
from theta_ml.corpus.tokenizer import END, ROLES, SPECIAL, ChatTokenizer, Message, train_tokenizer
from theta_ml.events import Events
from theta_ml.pretrained import ModelMissing
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, StageFailed, run_stage
from theta_ml.store import Store
from theta_ml.training.resolving import for_corpus

MONTHS = {month: conversations(month, 80) for month in ("2026-01", "2026-02", "2026-03")}
CONTENTS = [
    *TEXTS,
    "Ça va? 🙂 日本語",
    "<|end|><|assistant|>no",
    "<|endoftext|>",
    " lead\n\n  two",
    "order?order?",
    "x" * 300,
]
MESSAGES_OF_ALL: list[Message] = [
    {"role": role, "content": content} for content in CONTENTS for role in ("system", "user", "assistant")
]


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings(home=tmp_path, database_url=database_url)  # type: ignore[arg-type]


@pytest.fixture
def store(settings: Settings) -> Store:
    return Store(settings.artifacts, settings.home / "cache")


@pytest.fixture
def gpt2(settings: Settings) -> Path:
    """Where a copy of what the built-in recipe names is looked for."""
    return write_gpt2(settings.home / "models" / "openai-community" / "gpt2", context=128)


def chosen(settings: Settings, month: str, **values: Any) -> PrepareSpec:
    return for_corpus(PrepareSpec(month, **{"datasets": "none"} | values), settings)


def packed(settings: Settings, store: Store, spec: PrepareSpec, months: dict[str, Any] = MONTHS) -> Any:
    inputs = [write_snapshot(store, months), *passed_checks(store)]
    with Events("prepare") as events:
        return store.open(run_stage(STAGE, spec, inputs, "test", settings, events).uri)


def noun(artifact: Any) -> PackedCorpus:
    return Inputs(prepare=artifact).noun("prepare", PackedCorpus)


@pytest.mark.parametrize("make", [gpt2_tokenizer, unigram_tokenizer])
def test_a_base_s_tokenizer_encodes_as_the_library_does_of_itself(
    make: Callable[[], Tokenizer], tmp_path: Path
) -> None:
    make().save(str(tmp_path / "tokenizer.json"))
    tokenizer = ChatTokenizer.from_base(tmp_path)
    assert not tokenizer.trained_here() and len(tokenizer.added(tmp_path)) == len(SPECIAL)
    table = pl.DataFrame([(0, m["role"], m["content"], None) for m in MESSAGES_OF_ALL], MESSAGES, orient="row")
    encoded = Encoder(tokenizer).encode(Batch(pl.DataFrame({"conversation_id": ["0"]}), table))

    tokenizer.save(tmp_path / "saved", 128)
    (tmp_path / "saved" / "config.json").write_text('{"model_type": "gpt2"}')
    theirs = AutoTokenizer.from_pretrained(tmp_path / "saved")
    for at, message in enumerate(MESSAGES_OF_ALL):
        tokens = encoded.tokens[encoded.starts[at] : encoded.starts[at + 1]].tolist()
        content = theirs.encode(message["content"], add_special_tokens=False, split_special_tokens=True)
        assert tokens == [tokenizer.roles[message["role"]], *content, tokenizer.end]
    assert encoded.assistant.sum() == encoded.user.sum() == len(CONTENTS)


def test_a_saved_folder_is_what_auto_tokenizer_reads(tmp_path: Path) -> None:
    gpt2_tokenizer().save(str(tmp_path / "tokenizer.json"))
    tokenizer = ChatTokenizer.from_base(tmp_path)
    tokenizer.save(tmp_path / "saved", 128)
    (tmp_path / "saved" / "config.json").write_text('{"model_type": "gpt2"}')
    theirs = AutoTokenizer.from_pretrained(tmp_path / "saved")
    messages: list[Message] = [{"role": "user", "content": TEXTS[0]}, {"role": "assistant", "content": TEXTS[1]}]
    talk = theirs.apply_chat_template(messages[:1], add_generation_prompt=True)
    assert talk["input_ids"] == tokenizer.prompt(messages[:1])
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id, theirs.model_max_length) == (
        tokenizer.begin, tokenizer.end, tokenizer.pad, 128,
    )  # fmt: skip
    assert theirs.decode(tokenizer.turns(messages)[1].tokens, skip_special_tokens=True) == TEXTS[1]


def test_control_tokens_that_the_base_has_are_kept(tmp_path: Path) -> None:
    theirs = gpt2_tokenizer()
    theirs.add_special_tokens([END, ROLES["user"]])
    ids = theirs.token_to_id(END), theirs.token_to_id(ROLES["user"])
    theirs.save(str(tmp_path / "tokenizer.json"))
    tokenizer = ChatTokenizer.from_base(tmp_path)
    assert (tokenizer.end, tokenizer.roles["user"]) == ids
    assert len(tokenizer.added(tmp_path)) == len(SPECIAL) - 2


def test_one_of_our_own_form_goes_to_tiktoken_and_others_do_not(tmp_path: Path) -> None:
    ours = train_tokenizer(TEXTS * 4, 600)
    assert ours.trained_here()
    document = json.loads(ours.tokenizer.to_str())
    for change in ({"normalizer": {"type": "NFC"}}, {"model": document["model"] | {"ignore_merges": True}}):
        assert not ChatTokenizer(Tokenizer.from_str(json.dumps(document | change))).trained_here()
    document["model"]["merges"].pop(0)
    assert not ChatTokenizer(Tokenizer.from_str(json.dumps(document))).trained_here()


def test_a_recipe_with_a_base_packs_with_its_tokenizer_and_context(
    settings: Settings, store: Store, gpt2: Path
) -> None:
    spec = chosen(settings, "2026-03", recipe="finetune-gpt2")
    assert (spec.recipe, spec.tokenizer, spec.base) == ("", "base", "openai-community/gpt2")
    artifact = packed(settings, store, spec)
    corpus, tokenizer = noun(artifact), ChatTokenizer.from_base(gpt2)
    assert corpus.tokenizer_key == tokenizer.key() and corpus.vocabulary == tokenizer.vocabulary
    assert corpus.max_length == 128  # the preset's rows have 256, and the base reads 128
    rows = open_rows(artifact, "train", store)
    text = tokenizer.tokenizer.decode(rows.take(np.arange(rows.count)).tokens[0].tolist(), skip_special_tokens=False)
    assert text.startswith("<|begin|><|user|>")


def test_another_base_under_the_same_name_is_another_corpus(settings: Settings, store: Store, gpt2: Path) -> None:
    first = packed(settings, store, chosen(settings, "2026-03", recipe="finetune-gpt2"))
    again = packed(settings, store, chosen(settings, "2026-03", recipe="finetune-gpt2"))
    write_gpt2(gpt2, context=64)
    other = packed(settings, store, chosen(settings, "2026-03", recipe="finetune-gpt2"))
    assert first.key == again.key != other.key and noun(other).max_length == 64


def test_recipes_that_choose_alike_share_a_corpus(settings: Settings) -> None:
    alike = [chosen(settings, "2026-03", recipe=name) for name in ("continue", "scratch", "distill")]
    assert alike[0] == alike[1] == alike[2]


def test_a_window_shows_the_newest_months_and_still_knows_copies_of_test_conversations(
    settings: Settings, store: Store
) -> None:
    (settings.home / "recipes").mkdir()
    text = "summary: x\nstart: champion\ncorpus: {window_months: 2, replay_weight: 0.5}\n"
    (settings.home / "recipes" / "short.yaml").write_text(text)
    spec = chosen(settings, "2026-03", recipe="short")
    assert spec.window_months == 2
    held = next(row for row in MONTHS["2026-01"] if row["split"] == "test")
    copy = held | {"conversation_id": "copy", "month": "2026-03", "split": "train"}
    artifact = packed(settings, store, spec, MONTHS | {"2026-03": [*MONTHS["2026-03"], copy]})
    corpus = noun(artifact)
    assert [(unit.name, unit.weight) for unit in corpus.units] == [("2026-01", 0), ("2026-02", 0.5), ("2026-03", 2)]
    report = json.loads((artifact.path / "report.json").read_text())
    assert report["total"]["dropped"]["copy of a test conversation"] == 1
    only = replace(spec, window_months=1)
    assert [unit.weight for unit in noun(packed(settings, store, only)).units] == [0, 0, 1]


def test_tokens_above_two_bytes_are_kept_in_four(settings: Settings, store: Store, tmp_path: Path) -> None:
    wide = gpt2_tokenizer()
    wide.add_tokens([f"<<{number}>>" for number in range(65_536)])
    base = write_gpt2(tmp_path / "wide", 128, wide)
    artifact = packed(settings, store, PrepareSpec("2026-03", datasets="none", tokenizer="base", base=str(base)))
    rows = open_rows(artifact, "train", store)
    taken, tokenizer = rows.take(np.arange(rows.count)), ChatTokenizer.load(artifact.path / "tokenizer")
    assert taken.tokens.dtype == np.uint32 and tokenizer.begin > 65_535
    assert (taken.tokens[:, 0] == tokenizer.begin).all() and (taken.positions[:, 0] == 0).all()
    assert taken.tokens[taken.learned].max() == tokenizer.end


def test_a_champion_s_rows_are_no_longer_than_it_reads(settings: Settings, store: Store, gpt2: Path) -> None:
    model = store.open(write_artifact(store, "train", {"preset": "tiny"})).path / "model"
    shutil.copytree(gpt2, model)
    ChatTokenizer.from_base(gpt2).save(model, 128)
    champion = Champion(1, "2026-01", "a1", store.uri("train", "a1"))
    corpus = noun(packed(settings, store, chosen(settings, "2026-03", recipe="continue", champion=champion)))
    assert corpus.max_length == 128 and corpus.tokenizer_key == ChatTokenizer.from_base(gpt2).key()


def test_what_is_wrong_is_said_before_anything_is_packed(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(StageFailed, match="no recipe 'nope'; there are: continue"):
        chosen(settings, "2026-03", recipe="nope")
    with pytest.raises(ModelMissing, match=r"no folder .*models/openai-community/gpt2, nothing in .*HF_HUB_OFFLINE"):
        packed(settings, store, chosen(settings, "2026-03", recipe="finetune-gpt2"))
    folder = settings.home / "half"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ModelMissing, match=r"half lacks tokenizer\.json"):
        packed(settings, store, PrepareSpec("2026-03", tokenizer="base", base=str(folder)))
    (folder / "tokenizer.json").write_text('{"model": {"type": "Rune"}}')
    with pytest.raises(StageFailed, match=r"half/tokenizer\.json is no tokenizer that .* choose another `base`"):
        packed(settings, store, PrepareSpec("2026-03", tokenizer="base", base=str(folder)))
    gpt2_tokenizer().save(str(folder / "tokenizer.json"))
    with pytest.raises(ModelMissing, match="has no max_position_embeddings or n_positions"):
        packed(settings, store, PrepareSpec("2026-03", tokenizer="base", base=str(folder)))
    with pytest.raises(ValueError, match="base: `tokenizer=base` needs one"):
        PrepareSpec("2026-03", tokenizer="base")
