"""Hyper-parameter search: an Optuna study in Postgres whose trials are trainings, and whose winner is a recipe."""
