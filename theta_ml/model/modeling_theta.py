"""The Theta decoder: RMSNorm before each block, rotary positions, SwiGLU, tied embeddings.

Follows transformers' own models (Llama above all) in names and in form, so that `generate`, caches, compilation and
serving engines that know that form work unchanged. Needs nothing but torch and transformers.

Shapes: hidden states are (batch, time, hidden); q is (batch, heads, time, head_dim).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import GenerationMixin, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache, DynamicCache
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, dynamic_rope_update
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, slice_logits_to_keep
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

# Relative: `save_pretrained` lays this file and that one beside the weights, for engines that have no theta_ml.
from .configuration_theta import ThetaConfig

IGNORED = -100
"""Label of a token that bears no loss."""


class ThetaRMSNorm(nn.Module):
    """x / rms(x) · weight, over the last dimension (Zhang and Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        # In float32: the mean of squares loses too much in bfloat16. Under autocast the result is cast here, once,
        # rather than again by each projection that reads it.
        wide = x.float()
        wide = self.weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps))
        device = x.device.type
        return wide.to(torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype)


class ThetaRotaryEmbedding(nn.Module):
    """Cosines and sines of rotary positions (Su et al. 2021, arXiv:2104.09864).

    The names `original_inv_freq` and `compute_default_rope_parameters` are what the library looks for when it refills
    these buffers, which no checkpoint holds, after `from_pretrained`.
    """

    inv_freq: Tensor
    original_inv_freq: Tensor

    def __init__(self, config: ThetaConfig) -> None:
        super().__init__()
        self.max_seq_len_cached = config.max_position_embeddings
        self.original_max_seq_len = config.max_position_embeddings
        self.config = config
        assert isinstance(config.rope_parameters, dict)
        self.rope_type = config.rope_parameters["rope_type"]
        compute: Callable[..., tuple[Tensor, float]] = self.compute_default_rope_parameters
        if self.rope_type != "default":
            compute = ROPE_INIT_FUNCTIONS[str(self.rope_type)]
        inv_freq, self.attention_scaling = compute(config)
        self.register_buffer("inv_freq", inv_freq, persistent=False)
        self.register_buffer("original_inv_freq", inv_freq.clone(), persistent=False)

    @staticmethod
    def compute_default_rope_parameters(
        config: ThetaConfig, device: torch.device | None = None, **_: Any
    ) -> tuple[Tensor, float]:
        """Inverse frequencies (head_dim / 2,), and the attention's scaling, which is 1."""
        assert isinstance(config.rope_parameters, dict) and config.head_dim is not None
        exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float, device=device) / config.head_dim
        return 1.0 / (float(config.rope_parameters["rope_theta"] or 1e4) ** exponents), 1.0

    @torch.no_grad()
    @dynamic_rope_update
    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Each (batch, time, head_dim), in x's dtype."""
        angles = position_ids[..., None].float() * self.inv_freq.to(device=x.device, dtype=torch.float)
        angles = torch.cat((angles, angles), dim=-1)
        return (angles.cos() * self.attention_scaling).to(x.dtype), (angles.sin() * self.attention_scaling).to(x.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x: (batch, heads, time, head_dim); cos and sin: (batch, 1, time, head_dim)."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """softmax(q kᵀ · scaling + mask) v; returns (batch, time, heads, head_dim) and the weights."""
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, dim=1) if groups > 1 else x for x in (key, value))
    weights = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = functional.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class ThetaAttention(nn.Module):
    def __init__(self, config: ThetaConfig, layer_idx: int) -> None:
        super().__init__()
        assert config.head_dim is not None and config.num_key_value_heads is not None
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.head_dim
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = True
        heads, shared = config.num_attention_heads * self.head_dim, config.num_key_value_heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, heads, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, shared, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, shared, bias=False)
        self.o_proj = nn.Linear(heads, config.hidden_size, bias=False)
        self.q_norm: nn.Module = ThetaRMSNorm(self.head_dim, config.rms_norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm: nn.Module = ThetaRMSNorm(self.head_dim, config.rms_norm_eps) if config.qk_norm else nn.Identity()

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        query = self.q_norm(self.q_proj(hidden_states).view(shape)).transpose(1, 2)
        key = self.k_norm(self.k_proj(hidden_states).view(shape)).transpose(1, 2)
        value = self.v_proj(hidden_states).view(shape).transpose(1, 2)
        cos, sin = (x.unsqueeze(1) for x in position_embeddings)
        # Under autocast cosines are float32 and would make q and k so; flex attention wants all three of one kind.
        query, key = rotate(query, cos, sin).to(value.dtype), rotate(key, cos, sin).to(value.dtype)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        output, weights = attend(self, query, key, value, attention_mask, dropout=0.0, scaling=self.scaling, **kwargs)
        return self.o_proj(output.reshape(*hidden_states.shape[:-1], -1).contiguous()), weights


class ThetaMLP(nn.Module):
    """SwiGLU (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, config: ThetaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))
        return output


class ThetaDecoderLayer(GradientCheckpointingLayer):
    def __init__(self, config: ThetaConfig, layer_idx: int) -> None:
        super().__init__()
        self.self_attn = ThetaAttention(config, layer_idx)
        self.mlp = ThetaMLP(config)
        self.input_layernorm = ThetaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = ThetaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        attended, _ = self.self_attn(self.input_layernorm(hidden_states), **kwargs)
        hidden_states = hidden_states + self.dropout(attended)
        transformed: Tensor = self.mlp(self.post_attention_layernorm(hidden_states))
        return hidden_states + self.dropout(transformed)


class ThetaPreTrainedModel(PreTrainedModel):
    config: ThetaConfig
    config_class = ThetaConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["ThetaDecoderLayer"]  # noqa: RUF012  the library declares these as instance variables
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {"hidden_states": ThetaDecoderLayer, "attentions": ThetaAttention}  # noqa: RUF012


class ThetaModel(ThetaPreTrainedModel):
    """The backbone: token ids in, hidden states out."""

    def __init__(self, config: ThetaConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.embed_dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(ThetaDecoderLayer(config, index) for index in range(config.num_hidden_layers))
        self.norm = ThetaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary_emb = ThetaRotaryEmbedding(config)
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Packed documents are told apart by `position_ids` that start again, with no `attention_mask` and no cache."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        if position_ids is None:
            seen = (
                past_key_values.get_seq_length() if past_key_values is not None else 0
            )  # a static cache's is a tensor
            position_ids = (torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device) + seen).unsqueeze(0)
        mask = self._mask(inputs_embeds, attention_mask, past_key_values, position_ids)
        hidden_states = self.embed_dropout(inputs_embeds)
        position_embeddings = self.rotary_emb(hidden_states, position_ids=position_ids)
        for layer in self.layers:
            hidden_states = layer(
                hidden_states,
                attention_mask=mask,
                position_embeddings=position_embeddings,
                position_ids=position_ids,
                past_key_values=past_key_values,
                **kwargs,
            )
        return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden_states), past_key_values=past_key_values)

    def _mask(
        self, embeds: Tensor, attention_mask: Tensor | None, cache: Cache | None, position_ids: Tensor
    ) -> Tensor | BlockMask | None:
        if self.config._attn_implementation == "flex_attention" and attention_mask is None and cache is None:
            return document_block_mask(position_ids.expand(embeds.shape[0], -1))
        mask: Tensor | BlockMask | None = create_causal_mask(
            config=self.config,
            inputs_embeds=embeds,
            attention_mask=attention_mask,
            past_key_values=cache,
            position_ids=position_ids,
        )
        return mask


def document_block_mask(position_ids: Tensor) -> BlockMask:
    """Each token sees those before it in its document; documents begin where `position_ids` (batch, time) start again.

    The library's own mask for flex attention asks torch to compile it in a way that torch 2.13 warns of, and that
    warning breaks the graph of whoever compiles the model. Made here it is a part of that graph, and since documents
    keep their order it need not look up positions.
    """
    documents = (torch.diff(position_ids, prepend=position_ids[:, :1] - 1) != 1).cumsum(-1)

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (documents[batch, query] == documents[batch, key]) & (query >= key)

    rows, time = position_ids.shape
    return create_block_mask(sees, rows, None, time, time, device=position_ids.device)


class ThetaForCausalLM(ThetaPreTrainedModel, GenerationMixin):
    """The backbone with a language-model head that shares the embeddings' weights."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012
    _tp_plan = {"lm_head": "colwise_gather_output"}  # noqa: RUF012
    _pp_plan = {"lm_head": (["hidden_states"], ["logits"])}  # type: ignore[dict-item]  # noqa: RUF012
    _fsdp_plan = {"lm_head": "keep_full_weight"}  # noqa: RUF012

    def __init__(self, config: ThetaConfig) -> None:
        super().__init__(config)
        self.model = ThetaModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        loss_at: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: int | Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits (batch, time, vocabulary) of the last `logits_to_keep` tokens (0: all); given labels, only the loss.

        A bool (batch, time) as `logits_to_keep` gives logits (chosen tokens, vocabulary), as everywhere in the library.
        `labels` are input_ids with IGNORED where no loss is wanted (they are shifted here). The loss is a mean in nats
        over the labelled tokens, or over `num_items_in_batch` where a batch is a part of a larger one. `loss_at` (n,)
        int64 are the flat positions row · time + t whose next token, labels[row, t + 1], bears loss: whoever made the
        batch knows them, and finding them here would make the processor wait for the GPU.
        """
        if labels is not None:
            use_cache = False  # a cache would silently let packed documents see each other
        outputs: BaseModelOutputWithPast = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        hidden_states = outputs.last_hidden_state
        assert hidden_states is not None
        loss = logits = None
        if labels is not None:
            loss = self.loss_of(hidden_states, labels, loss_at, num_items_in_batch)
        else:
            logits = self.lm_head(slice_logits_to_keep(hidden_states, logits_to_keep))
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def loss_of(
        self, hidden_states: Tensor, labels: Tensor, loss_at: Tensor | None, items: int | Tensor | None
    ) -> Tensor:
        """Cross-entropy in nats; logits are computed only where there is a label, which saves most of the head."""
        if loss_at is None:
            loss_at = loss_positions(labels)
        states = hidden_states.flatten(0, 1).index_select(0, loss_at)
        targets = labels.flatten().index_select(0, loss_at + 1)
        total = functional.cross_entropy(self.lm_head(states).float(), targets, reduction="sum")
        return total / (max(1, len(loss_at)) if items is None else items)


def loss_positions(labels: Tensor) -> Tensor:
    """(n,) int64: flat positions row · time + t whose next token in `labels` (batch, time) bears loss.

    On a GPU this makes the processor wait; a collator calls it on the CPU.
    """
    bears = functional.pad(labels[:, 1:] != IGNORED, (0, 1))  # a row's last token has no next one
    return bears.flatten().nonzero().squeeze(1)
