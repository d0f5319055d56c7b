"""Which model is in production, why, and since when: MLflow versions and the ledger."""
