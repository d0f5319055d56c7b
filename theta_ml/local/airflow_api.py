"""What Airflow must know before the first run: the pool, the database, the mail server. Through its REST API."""

import json
from typing import Any
from urllib.parse import urlsplit

import httpx

from theta_ml.local.layout import StackError

GPU_POOL = "gpu"


def configure_airflow(url: str, written: dict[str, Any]) -> None:
    """Create or update the pool and the connections. Raises StackError with Airflow's answer where it refuses."""
    try:
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            client.headers["Authorization"] = f"Bearer {_token(client, written)}"
            _put(client, "pools", GPU_POOL, _pool())
            for connection in (database_connection(written["database_url"]), mail_connection(written)):
                _put(client, "connections", connection["connection_id"], connection)
    except httpx.TransportError as error:
        raise StackError(f"Airflow at {url} does not answer ({error}): see `theta logs api-server`") from error


def _token(client: httpx.Client, written: dict[str, Any]) -> str:
    login = {"username": written["airflow_user"], "password": written["airflow_password"]}
    token: str = _checked(client.post("/auth/token", json=login)).json()["access_token"]
    return token


def _put(client: httpx.Client, kind: str, name: str, body: dict[str, Any]) -> None:
    if client.get(f"/api/v2/{kind}/{name}").status_code == httpx.codes.NOT_FOUND:
        _checked(client.post(f"/api/v2/{kind}", json=body))
    else:
        change = {("pool" if key == "name" else key): value for key, value in body.items()}
        _checked(client.patch(f"/api/v2/{kind}/{name}", json=change))


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_error:
        request = response.request
        raise StackError(f"Airflow refused {request.method} {request.url}: {response.status_code} {response.text}")
    return response


def _pool() -> dict[str, Any]:
    return {"name": GPU_POOL, "slots": 1, "description": "One training at a time", "include_deferred": False}


def database_connection(url: str) -> dict[str, Any]:
    """Airflow's connection `theta_db` to the landing zone."""
    from psycopg.conninfo import conninfo_to_dict

    parts = dict(conninfo_to_dict(url))
    known = {
        "connection_id": "theta_db",
        "conn_type": "postgres",
        "host": parts.pop("host", None),
        "port": int(parts.pop("port", None) or 5432),
        "login": parts.pop("user", None),
        "password": parts.pop("password", None),
        "schema": parts.pop("dbname", None) or urlsplit(url).path.lstrip("/"),
    }
    return {**known, "extra": json.dumps(parts)}


def mail_connection(written: dict[str, Any]) -> dict[str, Any]:
    """Airflow's connection `smtp_default`."""
    security = written["smtp_security"]
    # The hook would start TLS inside TLS where both are on, which they are unless disabled.
    extra = {"disable_ssl": security != "ssl", "disable_tls": security != "starttls"}
    return {
        "connection_id": "smtp_default",
        "conn_type": "smtp",
        "host": written["smtp_host"],
        "port": written["smtp_port"],
        "login": written["smtp_user"],
        "password": written["smtp_password"],
        "extra": json.dumps(extra),
    }
