"""Notices are about decisions: the same installation as the registry's tests have."""

from tests.registry.conftest import pipeline, settings  # noqa: F401
