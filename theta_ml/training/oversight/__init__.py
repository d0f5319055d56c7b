"""Oversight of a training: sensors, heat, reports, mails, and what its curves say about overfitting."""
