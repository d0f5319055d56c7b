"""What MLflow runs for a registered version (models from code): prompts in, answers out.

MLflow copies this file into the version and executes it, so it stands alone but for the installed Theta.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class ThetaText(PythonModel):
    """Answers each prompt as a conversation of its own. The weights are loaded by the first question."""

    def load_context(self, context: PythonModelContext) -> None:
        self.folder = Path(context.artifacts["model"])

    @cached_property
    def loaded(self) -> tuple[Any, Any]:
        from theta_ml.model.loading import load

        return load(self.folder)

    def predict(self, model_input: list[str]) -> list[str]:  # type: ignore[override]
        from theta_ml.model.generation import generate_reply

        model, tokenizer = self.loaded
        return [generate_reply(model, tokenizer, [{"role": "user", "content": prompt}]) for prompt in model_input]


set_model(ThetaText())
