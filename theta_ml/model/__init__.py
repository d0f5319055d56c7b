"""The model, in Hugging Face's form. Importing this package makes `AutoModelForCausalLM` know it."""

import theta_ml.threads  # noqa: F401  before torch

# isort: split
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from theta_ml.model.configuration_theta import ThetaConfig
from theta_ml.model.modeling_theta import ThetaForCausalLM, ThetaModel

AutoConfig.register(ThetaConfig.model_type, ThetaConfig)
AutoModel.register(ThetaConfig, ThetaModel)
AutoModelForCausalLM.register(ThetaConfig, ThetaForCausalLM)
# `save_pretrained` then lays the two files of the model beside the weights (see AUTO_MAP).
ThetaConfig.register_for_auto_class()
ThetaForCausalLM.register_for_auto_class("AutoModelForCausalLM")

__all__ = ["ThetaConfig", "ThetaForCausalLM", "ThetaModel"]
