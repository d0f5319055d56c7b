"""The model keeps what transformers expects of it: save and load, caches, padding, packed documents."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, StaticCache

from theta_ml.model import ThetaConfig, ThetaForCausalLM, ThetaModel
from theta_ml.model.modeling_theta import IGNORED, loss_positions

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@pytest.fixture(params=["eager", "sdpa, norms on queries and keys"])
def model(request: pytest.FixtureRequest) -> ThetaForCausalLM:
    attention, _, norms = request.param.partition(",")
    return make(attn_implementation=attention, qk_norm=bool(norms))


@pytest.fixture
def one() -> ThetaForCausalLM:
    return make(qk_norm=True)


def make(**options: object) -> ThetaForCausalLM:
    torch.manual_seed(0)
    config = ThetaConfig(**SHAPE, num_key_value_heads=2, **options)
    model = ThetaForCausalLM(config).eval()
    for parameter in model.parameters():  # small random weights give every token the same answer
        parameter.data += 0.2 * torch.randn(parameter.shape)
    return model


def ids(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, 97, (rows, length), generator=torch.Generator().manual_seed(seed))


def test_what_is_saved_loads_the_same(model: ThetaForCausalLM, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation=model.config._attn_implementation)
    assert isinstance(loaded, ThetaForCausalLM) and not loaded.training
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    torch.testing.assert_close(loaded(ids(2, 20)).logits, model(ids(2, 20)).logits, rtol=0, atol=0)
    assert isinstance(AutoModel.from_pretrained(tmp_path), ThetaModel)
    assert AutoConfig.from_pretrained(tmp_path).dropout == 0.2


def test_a_saved_model_answers_with_only_transformers_and_the_model_package(
    one: ThetaForCausalLM, tmp_path: Path
) -> None:
    one.save_pretrained(tmp_path)
    script = """
import sys, torch, transformers, theta_ml.model
model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1])
answer = model.generate(torch.tensor([[5, 6, 7]]),
    max_new_tokens=6, do_sample=False, eos_token_id=96)
print(answer[0].tolist(), sorted(name for name in sys.modules if name.startswith("theta_ml.")), sep=";")
"""
    ran = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    answer, modules = ran.stdout.strip().split(";")
    prompt = torch.tensor([[5, 6, 7]])
    assert answer == str(generate(one, prompt, max_new_tokens=6)[0].tolist())
    assert modules == (
        "['theta_ml.model', 'theta_ml.model.configuration_theta', 'theta_ml.model.modeling_theta', 'theta_ml.threads']"
    )


def test_an_engine_without_theta_runs_the_files_beside_the_weights(one: ThetaForCausalLM, tmp_path: Path) -> None:
    """As vLLM's transformers backend does: AutoModel is the backbone, told by its plans how it may be split."""
    one.save_pretrained(tmp_path / "model")
    script = """
import sys
sys.modules["theta_ml"] = None
import torch, transformers
model = transformers.AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
hidden = model(torch.tensor([[5, 6, 7]]), use_cache=False, return_dict=False)[0]
print(type(model).__name__, model.is_backend_compatible(), model.supports_tp_plan, model.supports_pp_plan, sep=";")
print(float(hidden.abs().sum()))
"""
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", script, tmp_path / "model"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    facts, total = ran.stdout.strip().splitlines()
    assert facts == "ThetaModel;True;True;True"
    assert float(total) == pytest.approx(one.model(torch.tensor([[5, 6, 7]])).last_hidden_state.abs().sum().item())
    auto_map = json.loads((tmp_path / "model" / "config.json").read_text())["auto_map"]
    assert auto_map["AutoModel"] == "modeling_theta.ThetaModel"


def test_every_weight_that_can_be_split_has_a_place_in_the_plan(one: ThetaForCausalLM) -> None:
    for name, module in one.model.named_modules():
        if isinstance(module, torch.nn.Linear):
            assert name.replace(".0.", ".*.").replace(".1.", ".*.") in ThetaConfig.base_model_tp_plan


def test_a_cache_changes_nothing(model: ThetaForCausalLM) -> None:
    tokens = ids(2, 12)
    whole = model(tokens).logits
    first = model(tokens[:, :7], use_cache=True)
    second = model(tokens[:, 7:], past_key_values=first.past_key_values, use_cache=True)
    torch.testing.assert_close(torch.cat([first.logits, second.logits], 1), whole, rtol=1e-4, atol=1e-5)


def generate(model: ThetaForCausalLM, tokens: torch.Tensor, **options: object) -> torch.Tensor:
    options = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": 96, "disable_compile": True} | options
    return model.generate(tokens, attention_mask=(tokens != 0).long(), **options)


CACHES: list[dict[str, object]] = [
    {"use_cache": False},
    {"cache_implementation": "dynamic"},
    {"cache_implementation": "static"},
    *(
        pytest.param(
            {"cache_implementation": name}, marks=pytest.mark.skipif(not torch.cuda.is_available(), reason=why)
        )
        for name in ("offloaded", "offloaded_static")
        for why in ["the library's offloaded caches wait on CUDA streams"]
    ),
]


@pytest.mark.parametrize("cache", CACHES, ids=lambda cache: "-".join(map(str, cache.values())))
def test_every_cache_and_padding_at_the_left_give_the_same_answer(
    model: ThetaForCausalLM, cache: dict[str, object]
) -> None:
    device = "cuda" if "offloaded" in str(cache) else "cpu"
    model.to(device)
    short, long = ids(1, 5).to(device), ids(1, 9, seed=1).to(device)
    padded = torch.cat([torch.cat([torch.zeros_like(short[:, :4]), short], 1), long])
    together = generate(model, padded, **cache)
    assert together[0, 9:].tolist() == generate(model, short)[0, 5:].tolist()
    assert together[1, 9:].tolist() == generate(model, long)[0, 9:].tolist()


def test_a_quantised_cache_answers_nearly_the_same(model: ThetaForCausalLM) -> None:
    """In 8-bit floats, the library's backend that needs no further package."""
    options = {"cache_implementation": "quantized", "cache_config": {"backend": "fp8"}, "output_logits": True}
    options |= {"return_dict_in_generate": True, "max_new_tokens": 4}
    exact = generate(model, ids(2, 9), **(options | {"cache_implementation": "dynamic", "cache_config": None}))
    rounded = generate(model, ids(2, 9), **options)
    assert torch.corrcoef(torch.stack([exact.logits[1].flatten(), rounded.logits[1].flatten()]))[0, 1] > 0.99
    assert not torch.equal(exact.logits[1], rounded.logits[1])


@torch.no_grad()
def test_padding_at_the_right_changes_no_logit(model: ThetaForCausalLM) -> None:
    short, long = ids(1, 5), ids(1, 9, seed=1)
    padded = torch.cat([torch.cat([short, torch.zeros(1, 4, dtype=torch.long)], 1), long])
    together = model(padded, attention_mask=(padded != 0).long()).logits
    torch.testing.assert_close(together[:1, :5], model(short).logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together[1:], model(long).logits, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@torch.compiler.set_stance("force_eager")  # the library compiles flex attention: 20 s here
def test_the_attentions_agree(one: ThetaForCausalLM) -> None:
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), ids(1, 13)], 1).expand(2, -1)
    logits = []
    for attention in ("eager", "sdpa", "flex_attention"):
        one.set_attn_implementation(attention)
        options = ({}, {"attention_mask": (padded != 0).long()}, {"position_ids": torch.arange(16)[None] % 6})
        logits.append([one(padded, use_cache=False, **given).logits[:, 3:] for given in options])
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits[2], logits[0], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_resized_embeddings_stay_tied_and_keep_what_was_known(model: ThetaForCausalLM, tmp_path: Path) -> None:
    before = model(ids(1, 7)).logits
    model.resize_token_embeddings(110, mean_resizing=False)
    assert model.lm_head.weight is model.model.embed_tokens.weight and model.config.vocab_size == 110
    torch.testing.assert_close(model(ids(1, 7)).logits[..., :97], before)
    model.save_pretrained(tmp_path)
    assert AutoModelForCausalLM.from_pretrained(tmp_path)(torch.tensor([[109]])).logits.shape == (1, 1, 110)


@torch.no_grad()
def test_logits_are_computed_for_the_chosen_tokens_alone(model: ThetaForCausalLM) -> None:
    whole = model(ids(2, 7)).logits
    mask = torch.rand(2, 7) < 0.5
    torch.testing.assert_close(model(ids(2, 7), logits_to_keep=mask).logits, whole[mask], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model(ids(2, 7), logits_to_keep=2).logits, whole[:, -2:], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_an_exported_model_takes_batches_of_any_shape(model: ThetaForCausalLM) -> None:
    shapes = {"input_ids": {0: torch.export.Dim("batch"), 1: torch.export.Dim("time", max=64)}, "use_cache": None}
    exported = torch.export.export(model, (), {"input_ids": ids(2, 6), "use_cache": False}, dynamic_shapes=shapes)
    logits = exported.module()(input_ids=ids(3, 11), use_cache=False).logits
    torch.testing.assert_close(logits, model(ids(3, 11)).logits, rtol=1e-4, atol=1e-4)


def test_packed_documents_do_not_see_each_other(model: ThetaForCausalLM) -> None:
    first, second = ids(1, 9), ids(1, 11, seed=1)
    packed = torch.cat([first, second], 1)
    positions = torch.cat([torch.arange(9), torch.arange(11)]).unsqueeze(0)
    hidden = model.model(packed, position_ids=positions, use_cache=False).last_hidden_state
    torch.testing.assert_close(hidden[:, 9:], model.model(second).last_hidden_state, rtol=1e-4, atol=1e-5)
    mixed = model.model(packed, use_cache=False).last_hidden_state
    assert not torch.allclose(hidden[:, 9:], mixed[:, 9:], atol=1e-3)


@torch.no_grad()
def test_the_loss_of_packed_documents_is_theirs_even_where_a_cache_is_asked_for(model: ThetaForCausalLM) -> None:
    first, second = ids(1, 9), ids(1, 11, seed=1)
    labels = [x.clone() for x in (first, second)]
    for each in labels:
        each[:, :4] = IGNORED
    alone = sum(
        float(model(x, labels=y, num_items_in_batch=1).loss) for x, y in zip((first, second), labels, strict=True)
    )
    positions = torch.cat([torch.arange(9), torch.arange(11)]).unsqueeze(0)
    together = model(
        torch.cat([first, second], 1),
        position_ids=positions,
        labels=torch.cat(labels, 1),
        num_items_in_batch=1,
        use_cache=True,
    )
    assert float(together.loss) == pytest.approx(alone, rel=1e-5)
    assert together.logits is None


def test_the_loss_is_the_mean_where_there_are_labels(model: ThetaForCausalLM) -> None:
    tokens = ids(2, 10)
    labels = tokens.masked_fill(torch.arange(10) < 6, IGNORED)
    logits = model(tokens).logits[:, 5:-1]
    expected = torch.nn.functional.cross_entropy(logits.reshape(-1, 97), tokens[:, 6:].reshape(-1))
    assert float(model(tokens, labels=labels).loss) == pytest.approx(float(expected), rel=1e-5)


def test_positions_from_the_collator_give_the_loss_and_gradients_that_labels_give(model: ThetaForCausalLM) -> None:
    tokens = ids(3, 10)
    labels = tokens.masked_fill(torch.rand(3, 10, generator=torch.Generator().manual_seed(1)) < 0.6, IGNORED)
    labels[:, 0] = tokens[:, 0]  # the first token of a row is nobody's next one
    at = torch.tensor([row * 10 + t for row in range(3) for t in range(9) if labels[row, t + 1] != IGNORED])
    assert loss_positions(labels).tolist() == at.tolist()
    gradients = []
    for options in ({}, {"loss_at": at}, {"loss_at": at, "num_items_in_batch": torch.tensor(len(at))}):
        model.zero_grad()
        model(tokens, labels=labels, **options).loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0], rtol=1e-5, atol=1e-7)
    assert float(model(tokens, labels=labels, loss_at=at[:0]).loss) == 0.0


def test_the_backbone_compiles_as_one_graph(model: ThetaForCausalLM) -> None:
    explained = torch._dynamo.explain(model.model)(
        ids(2, 16), position_ids=torch.arange(16).remainder(8)[None].expand(2, -1), use_cache=False
    )
    assert explained.graph_break_count == 0


@torch.no_grad()
def test_a_static_cache_is_decoded_by_one_graph(one: ThetaForCausalLM) -> None:
    torch._dynamo.reset()
    tokens, cache = ids(2, 14), StaticCache(config=one.config, max_cache_len=16)
    expected = one(tokens).logits[:, 10:]
    one(tokens[:, :10], past_key_values=cache, use_cache=True)
    step = torch.compile(one, fullgraph=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        logits = [step(tokens[:, t : t + 1], past_key_values=cache, use_cache=True).logits for t in range(10, 14)]
    torch.testing.assert_close(torch.cat(logits, 1), expected, rtol=1e-4, atol=1e-4)


def test_dropout_falls_on_residuals_and_embeddings_but_not_on_attention() -> None:
    torch.manual_seed(0)
    model = ThetaForCausalLM(ThetaConfig(**SHAPE)).train()
    assert not torch.equal(model(ids(1, 8)).logits, model(ids(1, 8)).logits)
    with pytest.raises(Exception, match="attention_dropout must be 0"):
        ThetaConfig(**SHAPE, attention_dropout=0.1)


def test_a_shape_that_does_not_fit_says_what_to_choose() -> None:
    with pytest.raises(Exception, match="choose a multiple of num_attention_heads"):
        ThetaConfig(**(SHAPE | {"num_attention_heads": 5}))
    with pytest.raises(Exception, match="choose a divisor of num_attention_heads"):
        ThetaConfig(**SHAPE, num_key_value_heads=3)
