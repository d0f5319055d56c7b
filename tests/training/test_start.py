"""Where trainings start from: every kind of weights, with adapters and without, and what does not fit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from tests.corpus.bases import TEXTS, gpt2_tokenizer, write_gpt2
from tests.corpus.snapshots import write_artifact
from theta_ml.champion import Champion
from theta_ml.corpus.prepare import PackedCorpus
from theta_ml.corpus.tokenizer import SPECIAL, ChatTokenizer, train_tokenizer
from theta_ml.model import ThetaForCausalLM
from theta_ml.pretrained import ModelMissing
from theta_ml.settings import Settings
from theta_ml.stage import StageFailed
from theta_ml.store import Store
from theta_ml.training.adapters import merged
from theta_ml.training.presets import TINY, ModelShape
from theta_ml.training.recipe import Adapters, Recipe
from theta_ml.training.resolving import with_content
from theta_ml.training.start import Start, load_teacher, start

PRESET = replace(TINY, shape=ModelShape(hidden_size=32, layers=1, heads=2, intermediate_size=64))
CONTINUE, SCRATCH = Recipe("continue", "x", "champion"), Recipe("scratch", "x", "scratch")
ADAPTERS = Adapters(rank=4, alpha=8)


class House:
    """A store with a corpus, and whatever models a test puts there."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home)
        self.store = Store(self.settings.artifacts, home / "cache")
        self.folder = home / "corpus"
        self.champions = 0
        self.made_with(train_tokenizer(TEXTS * 4, 600))

    def made_with(self, tokenizer: ChatTokenizer, max_length: int = 64) -> None:
        tokenizer.save(self.folder / "tokenizer", max_length)
        self.tokenizer = ChatTokenizer.load(self.folder / "tokenizer")
        ids: dict[str, Any] = {"begin": tokenizer.begin, "pad": tokenizer.pad, "vocabulary": tokenizer.vocabulary}
        self.corpus = PackedCorpus(
            "2026-01", tokenizer_key=self.tokenizer.key(), max_length=max_length, units=[], sequences={}, tokens={},
            loss_tokens={}, documents={}, **ids,
        )  # fmt: skip

    def champion(self, model: PreTrainedModel, preset: str = "tiny") -> Champion:
        self.champions += 1
        uri = write_artifact(self.store, "train", {"preset": preset}, f"a{self.champions}")
        folder = self.store.open(uri).path / "model"
        model.save_pretrained(folder)
        self.tokenizer.save(folder, 64)
        return Champion(3, "2026-01", f"a{self.champions}", uri)

    def start(self, recipe: Recipe, champion: Champion | None = None, seed: int = 1) -> Start:
        return start(recipe, PRESET, champion, self.corpus, self.folder, seed, self.store, self.settings)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def gpt2(house: House) -> Recipe:
    """A recipe from a GPT-2, of whose tokens the corpus is made."""
    folder = write_gpt2(house.settings.home / "gpt2")
    house.made_with(ChatTokenizer.from_base(folder))
    return Recipe("mine", "x", "base", base=str(folder))


def test_random_weights_hang_on_the_seed(house: House) -> None:
    one, same, other = house.start(SCRATCH), house.start(SCRATCH), house.start(SCRATCH, seed=2)
    weights = [begun.model.get_input_embeddings().weight for begun in (one, same, other)]
    assert isinstance(one.model, ThetaForCausalLM) and torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert (one.name, one.peak, one.rate) == ("scratch", TINY.hyper.rate_scratch, "rate_scratch")


def test_a_champion_that_fits_goes_on_and_another_gives_way_to_random_weights(house: House) -> None:
    model = house.start(SCRATCH, seed=7).model
    champion = house.champion(model)
    begun = house.start(CONTINUE, champion)
    assert (begun.name, begun.peak) == ("champion v3", TINY.hyper.rate_champion)
    assert torch.equal(begun.model.get_input_embeddings().weight, model.get_input_embeddings().weight)
    assert house.start(CONTINUE).name == "scratch"  # there is none
    assert house.start(CONTINUE, house.champion(model, preset="base")).name == "scratch"
    house.corpus = replace(house.corpus, max_length=65)
    assert house.start(CONTINUE, champion).name == "scratch"  # it reads 64 tokens at once
    house.made_with(train_tokenizer(TEXTS[:2] * 4, 600))
    assert house.start(CONTINUE, champion).name == "scratch"  # other tokens


def test_a_base_model_learns_our_control_tokens(house: House, gpt2: Recipe) -> None:
    begun = house.start(gpt2)
    model, base = begun.model, GPT2LMHeadModel.from_pretrained(str(gpt2.base))
    assert isinstance(model, GPT2LMHeadModel) and (begun.rate, begun.peak) == ("rate_base", TINY.hyper.rate_base)
    old = base.get_input_embeddings().weight
    new = model.get_input_embeddings().weight
    assert len(new) == len(old) + len(SPECIAL) == house.corpus.vocabulary and torch.equal(new[: len(old)], old)
    assert new.dtype == torch.float32 and model.lm_head.weight is new
    config, tokenizer = model.config, house.tokenizer
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (
        tokenizer.begin, tokenizer.end, tokenizer.pad,
    )  # fmt: skip
    assert (config.attn_pdrop, config.resid_pdrop, config.embd_pdrop) == (0, 0.2, 0.2)


@pytest.mark.parametrize("training", [False, True])
def test_packed_documents_stay_apart_in_a_base_model(house: House, gpt2: Recipe, training: bool) -> None:
    model = house.start(gpt2).model
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.train(training)
    ids = torch.randint(0, 300, (1, 40))
    positions = torch.cat([torch.arange(15), torch.arange(25)])[None]
    with torch.no_grad():
        packed = model(input_ids=ids, position_ids=positions).logits
        alone = model(input_ids=ids[:, 15:]).logits
    assert torch.allclose(packed[:, 15:], alone, atol=1e-5)


def train_a_little(model: PreTrainedModel, steps: int = 5) -> None:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    ids = torch.arange(250, 320)[None] % 320
    for _ in range(steps):
        model(input_ids=ids[:, :64], labels=ids[:, :64]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def logits_of(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(300, 320)[None]).logits


def test_adapters_and_new_tokens_are_all_that_is_trained_and_become_the_plain_model(
    house: House, gpt2: Recipe, tmp_path: Path
) -> None:
    model = house.start(replace(gpt2, adapters=ADAPTERS)).model
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name or "trainable_tokens" in name for name in trained)
    # Both of attention's linear layers and both of the MLP's, in two blocks, two matrices each; and the new tokens.
    assert sum("lora_" in name for name in trained) == 2 * 4 * 2
    before = model.get_base_model().transformer.wte.weight[:-6].clone()
    train_a_little(model)
    logits = logits_of(model)
    plain = merged(model)
    assert type(plain) is GPT2LMHeadModel and plain.config.use_cache
    assert torch.allclose(logits_of(plain), logits, atol=1e-4)
    assert torch.equal(plain.transformer.wte.weight[:-6], before)  # the old tokens' embeddings are as they were
    plain.save_pretrained(tmp_path / "saved")
    assert torch.allclose(logits_of(AutoModelForCausalLM.from_pretrained(tmp_path / "saved")), logits, atol=1e-4)


def test_a_champion_takes_adapters_too(house: House, tmp_path: Path) -> None:
    champion = house.champion(house.start(SCRATCH, seed=7).model)
    begun = house.start(replace(CONTINUE, adapters=ADAPTERS), champion)
    trained = sum(p.numel() for p in begun.model.parameters() if p.requires_grad)
    assert 0 < trained < sum(p.numel() for p in begun.model.parameters()) / 2
    plain = merged(begun.model)
    assert type(plain) is ThetaForCausalLM
    original = AutoModelForCausalLM.from_pretrained(house.store.open(champion.uri).path / "model")
    ids = torch.arange(100, 120)[None]
    assert torch.allclose(plain.eval()(ids).logits, original.eval()(ids).logits, atol=1e-6)


def test_a_champion_that_is_no_theta_goes_on_at_a_base_s_rate(house: House, gpt2: Recipe) -> None:
    champion = house.champion(merged(house.start(gpt2).model))
    begun = house.start(CONTINUE, champion)
    assert isinstance(begun.model, GPT2LMHeadModel) and begun.name == "champion v3"
    assert begun.peak == TINY.hyper.rate_base and not begun.model.config.use_cache


def test_any_architecture_of_the_library_does(house: House) -> None:
    folder, tokenizer = house.settings.home / "llama", gpt2_tokenizer()
    config = LlamaConfig(
        vocab_size=512, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=128, attention_dropout=0.1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    house.made_with(ChatTokenizer.from_base(folder))
    begun = house.start(Recipe("llama", "x", "base", base=str(folder), adapters=ADAPTERS))
    model = begun.model.get_base_model()  # type: ignore[operator]
    assert isinstance(model, LlamaForCausalLM) and model.config.attention_dropout == 0
    assert len(model.get_input_embeddings().weight) == 512  # there was room for our tokens


def test_other_weights_are_another_recipe(house: House, gpt2: Recipe) -> None:
    first = with_content(gpt2, house.settings)
    assert first == with_content(gpt2, house.settings) and first.content
    weights = Path(str(gpt2.base)) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert with_content(gpt2, house.settings).content != first.content


def test_what_does_not_fit_is_said_with_what_to_change(house: House, gpt2: Recipe) -> None:
    folder = Path(str(gpt2.base))
    with pytest.raises(StageFailed, match=r"recipe x: adapters needs a champion to start from .there is none"):
        house.start(Recipe("x", "x", "champion", adapters=ADAPTERS))
    with pytest.raises(StageFailed, match=r"method preference needs a champion .* train one by `continue` first"):
        house.start(Recipe("x", "x", "champion", method="preference"))
    with pytest.raises(ModelMissing, match="there is no folder /nowhere; mend the recipe's `base`"):
        house.start(replace(gpt2, base="/nowhere"))
    house.corpus = replace(house.corpus, max_length=256)
    with pytest.raises(StageFailed, match="reads 128 tokens at once, and the corpus' rows have 256"):
        house.start(gpt2)
    house.made_with(train_tokenizer(TEXTS * 4, 600))
    with pytest.raises(StageFailed, match=r"reads other tokens than the corpus was made of .*same recipe"):
        house.start(gpt2)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelMissing, match=r"lacks model\*\.safetensors; .*pickles are never read"):
        house.start(gpt2)


def test_a_model_with_missing_weights_or_code_of_its_own_is_refused(house: House, gpt2: Recipe) -> None:
    folder = Path(str(gpt2.base))
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"n_layer": 2', '"n_layer": 3'))
    with pytest.raises(StageFailed, match=r"lack \d+ of the model's, transformer\.h\.2"):
        house.start(gpt2)
    strange = config.replace('"gpt2"', '"strange"').replace("{", '{"auto_map": {"AutoConfig": "evil.Config"},', 1)
    (folder / "config.json").write_text(strange)
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(StageFailed, match="cannot be loaded as a causal language model"):
        house.start(gpt2)


def test_a_teacher_speaks_of_the_corpus_tokens(house: House) -> None:
    recipe = Recipe("d", "x", "scratch", method="distill")
    model = house.start(SCRATCH, seed=7).model
    champion = house.champion(model)
    teacher = load_teacher(recipe, champion, house.corpus, house.store)
    assert torch.equal(teacher.get_input_embeddings().weight, model.get_input_embeddings().weight)
    assert not teacher.training and house.start(recipe, champion).name == "scratch"
    with pytest.raises(StageFailed, match="there is no champion yet to be taught by"):
        load_teacher(recipe, None, house.corpus, house.store)
    with pytest.raises(StageFailed, match="no model at /nowhere"):
        load_teacher(replace(recipe, teacher="/nowhere"), champion, house.corpus, house.store)
    house.made_with(train_tokenizer(TEXTS[:2] * 4, 600))
    with pytest.raises(StageFailed, match="has another tokenizer than the corpus"):
        load_teacher(recipe, champion, house.corpus, house.store)
