"""What must not get worse whatever is gained elsewhere, as numbers; the gate judges them."""

from theta_ml.evaluation.guardrails.measure import Model, measure

__all__ = ["Model", "measure"]
