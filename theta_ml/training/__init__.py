"""From packed rows to a trained candidate."""

import theta_ml.threads  # noqa: F401  before torch
