"""The model keeps what transformers expects of it: save and load, caches, padding, packed documents."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

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


@pytest.fixture(params=["eager", "sdpa"])
def model(request: pytest.FixtureRequest) -> ThetaForCausalLM:
    torch.manual_seed(0)
    return ThetaForCausalLM(ThetaConfig(**SHAPE, num_key_value_heads=2, attn_implementation=request.param)).eval()


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


def test_a_saved_model_needs_only_transformers_and_the_model_package(tmp_path: Path) -> None:
    ThetaForCausalLM(ThetaConfig(**SHAPE)).save_pretrained(tmp_path)
    script = (
        "import sys, torch, theta_ml.model; from transformers import AutoModelForCausalLM as A;"
        f"m = A.from_pretrained({str(tmp_path)!r});"
        "assert m(torch.ones(1, 5, dtype=torch.long)).logits.isfinite().all();"
        "print(sorted(n for n in sys.modules if n.startswith('theta_ml.')))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == (
        "['theta_ml.model', 'theta_ml.model.configuration_theta', 'theta_ml.model.modeling_theta', 'theta_ml.threads']"
    )


def test_a_cache_changes_nothing(model: ThetaForCausalLM) -> None:
    tokens = ids(2, 12)
    whole = model(tokens).logits
    first = model(tokens[:, :7], use_cache=True)
    second = model(tokens[:, 7:], past_key_values=first.past_key_values, use_cache=True)
    torch.testing.assert_close(torch.cat([first.logits, second.logits], 1), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_left_padding_does_not_change_an_answer(model: ThetaForCausalLM, cache: str) -> None:
    short, long = ids(1, 5), ids(1, 9, seed=1)
    padded = torch.cat([torch.cat([torch.zeros(1, 4, dtype=torch.long), short], 1), long])
    options = {"max_new_tokens": 8, "do_sample": False, "cache_implementation": cache, "eos_token_id": 96}
    options |= {"disable_compile": True}
    together = model.generate(padded, attention_mask=(padded != 0).long(), **options)
    alone = model.generate(short, attention_mask=torch.ones_like(short), **options)
    assert together[0, 9:].tolist() == alone[0, 5:].tolist()


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
