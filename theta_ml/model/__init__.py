"""The model, in Hugging Face's form. Importing this package makes `AutoModelForCausalLM` know it."""

import theta_ml.threads  # noqa: F401  before torch

# isort: split
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from theta_ml.model.configuration_theta import ThetaConfig
from theta_ml.model.modeling_theta import ThetaForCausalLM, ThetaModel

AutoConfig.register(ThetaConfig.model_type, ThetaConfig)
AutoModel.register(ThetaConfig, ThetaModel)
AutoModelForCausalLM.register(ThetaConfig, ThetaForCausalLM)

__all__ = ["ThetaConfig", "ThetaForCausalLM", "ThetaModel"]
