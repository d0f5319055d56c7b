"""Shape of a Theta model."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import RopeParameters

AUTO_MAP = {
    "AutoConfig": "configuration_theta.ThetaConfig",
    "AutoModel": "modeling_theta.ThetaModel",
    "AutoModelForCausalLM": "modeling_theta.ThetaForCausalLM",
}
"""For engines that run a saved model without Theta (vLLM asks for AutoModel, the backbone): which class of the files
beside the weights is which. Where `theta_ml.model` is imported its own classes are taken instead."""


@strict
class ThetaConfig(PreTrainedConfig):
    """A pre-norm decoder; the defaults are the preset `base`."""

    model_type = "theta"
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012  the library's own form
    # How engines split the model over several GPUs, in the library's own terms.
    base_model_tp_plan = {  # noqa: RUF012
        "layers.*.self_attn.q_proj": "colwise",
        "layers.*.self_attn.k_proj": "colwise",
        "layers.*.self_attn.v_proj": "colwise",
        "layers.*.self_attn.q_norm": "replicated_with_grad_allreduce",
        "layers.*.self_attn.k_norm": "replicated_with_grad_allreduce",
        "layers.*.self_attn.o_proj": "rowwise",
        "layers.*.mlp.gate_proj": "colwise",
        "layers.*.mlp.up_proj": "colwise",
        "layers.*.mlp.down_proj": "rowwise",
    }
    base_model_pp_plan = {  # noqa: RUF012
        "embed_tokens": (["input_ids"], ["inputs_embeds"]),
        "layers": (["hidden_states", "attention_mask"], ["hidden_states"]),
        "norm": (["hidden_states"], ["hidden_states"]),
    }

    vocab_size: int = 16_384
    hidden_size: int = 768
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_key_value_heads: int | None = None
    """Fewer than the heads: groups of heads share keys and values. None: as many as heads."""
    head_dim: int | None = None
    qk_norm: bool = False
    """RMSNorm on each head's queries and keys (Henry et al. 2020, arXiv:2010.04245): attention's logits stay bounded
    at high learning rates."""
    hidden_act: str = "silu"
    max_position_embeddings: int = 1024
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    rope_parameters: RopeParameters | dict[str, Any] | None = None
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    tie_word_embeddings: bool = True
    dropout: float = 0.2
    """On the embeddings and on what each block adds to the residual stream."""
    attention_dropout: float = 0.0
    """Stays 0: dropout on attention rules out every fast kernel."""

    def __post_init__(self, **kwargs: Any) -> None:
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        if self.head_dim is None:
            self.head_dim = self.hidden_size // self.num_attention_heads
        self.auto_map = dict(AUTO_MAP)
        super().__post_init__(**kwargs)

    def validate_architecture(self) -> None:
        """Raises ValueError that says what to choose; called by `@strict`."""
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} does not divide into {self.num_attention_heads} heads: "
                f"choose a multiple of num_attention_heads"
            )
        if self.num_attention_heads % (self.num_key_value_heads or self.num_attention_heads):
            raise ValueError(
                f"{self.num_attention_heads} heads cannot share {self.num_key_value_heads} key-value heads: "
                f"choose a divisor of num_attention_heads"
            )
        if self.attention_dropout:
            raise ValueError("attention_dropout must be 0 (no fast kernel has it); raise `dropout` instead")
