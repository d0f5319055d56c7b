"""The session's stack is what a person finds after `theta up`."""

import pytest

from tests.conftest import Stack
from tests.local.test_stack import look
from theta_ml.local.layout import Layout

pytestmark = pytest.mark.stack


def test_it_is_usable(stack: Stack) -> None:
    found = look(stack)
    assert found["healthy"]
    assert found["login"]["user"] == stack.settings.airflow_user
    assert found["pss_bytes"] < 3e9
    password = stack.settings.airflow_password
    assert password is not None
    for log in Layout(stack.home).logs.rglob("*.log"):
        assert password.get_secret_value() not in log.read_text(errors="replace"), log
