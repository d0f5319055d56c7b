"""A server that speaks S3's protocol, for the whole session, and a bucket in it for each test that asks for one."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.mlflow_server import _free_port

READY_SECONDS = 60
KEY, SECRET = "AKIATHETATHETATHETA1", "a-secret-that-no-message-holds"


@pytest.fixture(scope="session")
def s3_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of moto's server. It takes any credentials."""
    yield from _server(tmp_path_factory.mktemp("s3") / "log")


@pytest.fixture
def s3_environment(monkeypatch: pytest.MonkeyPatch, s3_url: str) -> str:
    """AWS's variables name the server; its URL."""
    _name(monkeypatch, s3_url)
    return s3_url


@pytest.fixture
def bucket(s3_environment: str) -> Iterator[str]:
    """s3://… of a bucket of its own, emptied at the end: the server keeps all in memory."""
    name = f"theta-{uuid.uuid4().hex[:12]}"
    s3_client().create_bucket(Bucket=name)
    yield f"s3://{name}"
    left = [{"Key": key} for key in keys(f"s3://{name}")]
    if left:
        s3_client().delete_objects(Bucket=name, Delete={"Objects": left})


@pytest.fixture
def s3_with_permissions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """s3://… of a bucket that may be read and not written, of a server of its own that asks who comes."""
    for url in _server(tmp_path / "s3-log"):
        _name(monkeypatch, url)
        s3_client().create_bucket(Bucket="kept")
        _let_read(url, monkeypatch)
        yield "s3://kept"


def s3_client() -> Any:
    import boto3

    return boto3.client("s3")


def keys(url: str) -> list[str]:
    """Of all objects in the bucket."""
    pages = s3_client().get_paginator("list_objects_v2").paginate(Bucket=url.removeprefix("s3://").partition("/")[0])
    return [found["Key"] for page in pages for found in page.get("Contents", [])]


def _name(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    from s3fs import S3FileSystem

    variables = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    variables |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()  # a client keeps the credentials that it began with


def _let_read(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the server knows one user, who may list and read."""
    import boto3
    from s3fs import S3FileSystem

    iam = boto3.client("iam")
    iam.create_user(UserName="reader")
    policy = (
        '{"Version": "2012-10-17", "Statement":'
        ' [{"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "*"}]}'
    )
    iam.put_user_policy(UserName="reader", PolicyName="reads", PolicyDocument=policy)
    made = iam.create_access_key(UserName="reader")["AccessKey"]
    httpx.post(f"{url}/moto-api/reset-auth", content="0").raise_for_status()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", made["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", made["SecretAccessKey"])
    S3FileSystem.clear_instance_cache()


def _server(log: Path) -> Iterator[str]:
    url = f"http://127.0.0.1:{_free_port()}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", url.rpartition(":")[2]]
    with log.open("wb") as written:
        server = subprocess.Popen(command, env={**os.environ, "AWS_ACCESS_KEY_ID": ""}, stdout=written, stderr=written)
    try:
        _wait(url, server, log)
        yield url
    finally:
        server.terminate()
        server.wait(30)


def _wait(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            pytest.fail(f"moto's server ended: {log.read_text()[-2000:]}")
        try:
            if httpx.get(f"{url}/moto-api/", timeout=2).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)  # a server says by answering that it is ready, and in no other way
    pytest.fail(f"moto's server did not answer within {READY_SECONDS} s: {log.read_text()[-2000:]}")
