"""Keys and secrets go, what looks like them stays."""

import pytest

from theta_ml.bench.secrets import HARMLESS, SECRETS
from theta_ml.privacy.redaction import Redactor


@pytest.mark.parametrize(("text", "secret"), SECRETS.items(), ids=lambda value: value[:24])
def test_secrets_go(text: str, secret: str) -> None:
    redactor = Redactor()
    assert secret not in redactor.redact(text)
    assert set(redactor.counts) <= {"SECRET", "URL"}


@pytest.mark.parametrize("text", HARMLESS, ids=lambda value: value[:24])
def test_what_only_looks_like_a_secret_stays(text: str) -> None:
    assert Redactor().redact(text) == text
