"""Packed documents are as if each stood alone, on every attention, in training too, for library models as for ours."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from theta_ml.model import ThetaConfig, ThetaForCausalLM
from theta_ml.model.attention import training_attention
from theta_ml.model.modeling_theta import IGNORED, loss_positions

ROWS, TIME, VOCABULARY = 2, 24, 97
LENGTHS = ((9, 10, 5), (4, 20))  # the first row's last piece is padding, without labels
SIZE = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def theta(attention: str, **options: object) -> PreTrainedModel:
    shape = SIZE | {"intermediate_size": 64, "max_position_embeddings": 32, "num_key_value_heads": 2, "dropout": 0.0}
    return ThetaForCausalLM(ThetaConfig(**(shape | options), pad_token_id=0, attn_implementation=attention))


def llama(attention: str) -> PreTrainedModel:
    shape = SIZE | {"intermediate_size": 64, "max_position_embeddings": 32, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**shape, attn_implementation=attention))


def gpt2(attention: str) -> PreTrainedModel:
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    return GPT2LMHeadModel(GPT2Config(**SIZE, n_positions=32, **dropout, attn_implementation=attention))


def seeded(make: Callable[..., PreTrainedModel], attention: str, **options: object) -> PreTrainedModel:
    torch.manual_seed(0)
    model = make(attention, **options)
    for parameter in model.parameters():  # far from the start, where attention hardly matters
        parameter.data += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1
    return model.train()


def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(3, VOCABULARY, (ROWS, TIME), generator=generator)
    labels = tokens.masked_fill(torch.rand(ROWS, TIME, generator=generator) < 0.4, IGNORED)
    positions = torch.stack([torch.cat([torch.arange(n) for n in lengths]) for lengths in LENGTHS])
    labels[positions == 0] = IGNORED  # what a document begins with is not to be told from the one before it
    labels[0, -5:] = IGNORED
    return {"input_ids": tokens, "position_ids": positions, "labels": labels}


def documents(packed: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Each document as a batch of its own, with no word of positions."""
    parts = []
    for row, lengths in enumerate(LENGTHS):
        for start, length in zip(torch.tensor((0, *lengths)).cumsum(0).tolist(), lengths, strict=False):
            part = {name: packed[name][row : row + 1, start : start + length] for name in ("input_ids", "labels")}
            if (part["labels"] != IGNORED).any():
                parts.append(part)
    return parts


def gradients(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("make", [theta, llama, gpt2])
def test_packed_documents_have_the_loss_and_gradients_of_documents_alone(
    make: Callable[..., PreTrainedModel], attention: str, checkpointing: bool
) -> None:
    model, packed = seeded(make, attention), batch()
    if checkpointing:
        model.activation_checkpointing_enable()
    items = len(loss_positions(packed["labels"]))
    alone = [model(**part, num_items_in_batch=items, use_cache=False).loss for part in documents(packed)]
    torch.stack(alone).sum().backward()
    expected = gradients(model)
    model.zero_grad()
    ours = {"loss_at": loss_positions(packed["labels"])} if make is theta else {}
    together = model(**packed, **ours, num_items_in_batch=items, use_cache=False).loss
    together.backward()
    assert together.item() == pytest.approx(sum(loss.item() for loss in alone), rel=1e-5)
    torch.testing.assert_close(gradients(model), expected, rtol=1e-4, atol=1e-6)
    broken = model(**(packed | {"position_ids": torch.arange(TIME).expand(ROWS, -1)}), num_items_in_batch=items)
    assert broken.loss.item() != pytest.approx(together.item(), rel=1e-3)  # the documents' order would matter


@torch.no_grad()
@torch.compiler.set_stance("force_eager")  # the library compiles flex attention: 15 s here
def test_flex_attention_keeps_documents_apart_as_well() -> None:
    """It has no backward on a processor."""
    packed = batch()
    losses = [
        seeded(theta, attention)(**packed, num_items_in_batch=1).loss.item()
        for attention in ("eager", "sdpa", "flex_attention")
    ]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_with_dropout_no_document_feels_another_and_checkpointing_changes_nothing(
    attention: str, checkpointing: bool
) -> None:
    model = seeded(theta, attention, dropout=0.3)
    if checkpointing:
        model.activation_checkpointing_enable()
    packed = batch()
    changed = packed["input_ids"].clone()
    changed[0, :9] = torch.randint(3, VOCABULARY, (9,))

    def hidden(tokens: Tensor) -> Tensor:
        torch.manual_seed(3)
        states: Tensor = model.model(tokens, position_ids=packed["position_ids"], use_cache=False).last_hidden_state
        return states

    before, after = hidden(packed["input_ids"]), hidden(changed)
    torch.testing.assert_close(after[0, 9:], before[0, 9:], rtol=0, atol=0)
    torch.testing.assert_close(after[1], before[1], rtol=0, atol=0)
    assert not torch.allclose(after[0, :9], before[0, :9], atol=1e-2)


def test_gradient_checkpointing_gives_the_same_loss_and_gradients_under_dropout() -> None:
    results = []
    for checkpointing in (False, True):
        model = seeded(theta, "eager", dropout=0.3, qk_norm=True)
        if checkpointing:
            model.activation_checkpointing_enable()
        torch.manual_seed(4)
        loss = model(**batch()).loss
        loss.backward()
        results.append((loss.detach(), gradients(model)))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


@torch.no_grad()
def test_a_compiled_backbone_takes_new_packings_without_a_new_graph() -> None:
    model = seeded(theta, "eager").eval()
    expected = model.model(**_positions(7)).last_hidden_state
    model.model.compile(fullgraph=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for cut in (5, 7, 16):
            hidden = model.model(**_positions(cut)).last_hidden_state
            if cut == 7:
                torch.testing.assert_close(hidden, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_flex_attention_and_its_mask_are_one_graph() -> None:
    model = seeded(theta, "flex_attention").eval()
    explained = torch._dynamo.explain(model.model)(**_positions(7))
    assert (explained.graph_count, explained.graph_break_count) == (1, 0)


def _positions(cut: int) -> dict[str, object]:
    positions = torch.cat([torch.arange(cut), torch.arange(TIME - cut)]).expand(ROWS, -1)
    return {"input_ids": batch()["input_ids"], "position_ids": positions, "use_cache": False}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_with_flex_attention_is_one_graph_with_the_gradients_of_eager(
    checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kernels need a GPU, but torch's own reference of them has a backward, once nobody asks for the device."""
    monkeypatch.setattr("torch.nn.attention.flex_attention._validate_device", lambda *tensors: None)
    torch._dynamo.reset()
    flex, eager = (seeded(theta, attention) for attention in ("flex_attention", "eager"))
    if checkpointing:
        flex.activation_checkpointing_enable()
    flex.model.compile(fullgraph=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for cut in (5, 7, 16):
            for model in (flex, eager):
                model.zero_grad()
                model(**_positions(cut), labels=batch()["labels"]).loss.backward()
            torch.testing.assert_close(gradients(flex), gradients(eager), rtol=1e-4, atol=1e-5)


def test_the_attention_of_a_training_is_chosen_by_device_and_model() -> None:
    cpu, gpu, config = torch.device("cpu"), torch.device("cuda", 0), ThetaConfig()
    assert training_attention(config, cpu, compiled=True) == "eager"
    assert training_attention(config, gpu, compiled=True) == "flex_attention"
    assert training_attention(config, gpu, compiled=False) == "sdpa"
    assert training_attention(GPT2Config(), gpu, compiled=True) == "sdpa"  # it knows no flex attention
