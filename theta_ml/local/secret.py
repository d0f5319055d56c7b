"""Passwords and keys of a stack: generated once, kept in files of mode 0600."""

import base64
import secrets
from dataclasses import asdict, dataclass, field

from theta_ml.local.layout import Layout, read_json, write_json


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _hexadecimal() -> str:
    # 64 bytes, which SHA-512 asks of a key; letters and digits, which stand unquoted in a URL.
    return secrets.token_hex(32)


@dataclass(frozen=True)
class Secrets:
    """All that a stack must keep to itself."""

    postgres_password: str = field(default_factory=_hexadecimal, repr=False)
    airflow_password: str = field(default_factory=_hexadecimal, repr=False)
    airflow_fernet_key: str = field(default_factory=_fernet_key, repr=False)
    airflow_jwt_secret: str = field(default_factory=_hexadecimal, repr=False)
    airflow_secret_key: str = field(default_factory=_hexadecimal, repr=False)


def load_secrets(layout: Layout) -> Secrets:
    """The stack's secrets; missing ones are generated and kept. Raises SettingsError where the file is damaged."""
    kept = read_json(layout.secrets)
    generated = Secrets(**{name: value for name, value in kept.items() if name in Secrets.__dataclass_fields__})
    if asdict(generated) != kept:
        write_json(layout.secrets, asdict(generated))
    return generated
