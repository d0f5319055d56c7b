"""A bucket that is gone, read-only, away, or asks for other credentials: one sentence, and whether to try again."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.mlflow_server import _free_port
from tests.s3_server import KEY, SECRET
from theta_ml.cli.stage import EXIT_CONFIG
from theta_ml.settings import SettingsError
from theta_ml.stage import StageRetry
from theta_ml.store import DOCUMENT, Store
from theta_ml.store import root as root_module


def test_a_bucket_that_is_not_there_is_named(s3_environment: str, tmp_path: Path) -> None:
    store = Store("s3://nowhere/artifacts", tmp_path)
    for ask in (lambda: store.find("snapshot", "k"), lambda: store.open("s3://nowhere/artifacts/snapshot/k")):
        with pytest.raises(SettingsError, match=r"no such bucket as s3://nowhere.* THETA_ARTIFACTS_URL"):
            ask()


def test_a_bucket_that_goes_meanwhile_loses_no_work(bucket: str, tmp_path: Path) -> None:
    from tests.s3_server import keys, s3_client

    store, name = Store(f"{bucket}/a", tmp_path), bucket.removeprefix("s3://")
    with pytest.raises(SettingsError, match="no such bucket"), store.writing("snapshot", "k") as path:
        (path / DOCUMENT).write_text("{}")
        for key in keys(bucket):
            s3_client().delete_object(Bucket=name, Key=key)
        s3_client().delete_bucket(Bucket=name)
    s3_client().create_bucket(Bucket=name)
    assert Store(f"{bucket}/a", tmp_path).find("snapshot", "k") is not None


def test_a_bucket_that_may_only_be_read_is_found_out_before_any_work(s3_with_permissions: str, tmp_path: Path) -> None:
    store = Store(f"{s3_with_permissions}/a", tmp_path)
    assert store.find("snapshot", "k") is None
    began = False
    with (
        pytest.raises(
            SettingsError, match=r"not allowed to write to s3://kept/a \(AccessDenied\).*s3:PutObject"
        ) as told,
        store.writing("snapshot", "k"),
    ):
        began = True
    assert not began and SECRET not in str(told.value)


def test_credentials_that_the_server_refuses(
    s3_with_permissions: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s3fs import S3FileSystem

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    S3FileSystem.clear_instance_cache()
    with pytest.raises(SettingsError, match=r"does not accept the credentials.*AWS_ACCESS_KEY_ID") as told:
        Store(f"{s3_with_permissions}/a", tmp_path).find("snapshot", "k")
    assert KEY not in str(told.value) and SECRET not in str(told.value)


def test_no_credentials_at_all(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from s3fs import S3FileSystem

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    S3FileSystem.clear_instance_cache()
    with pytest.raises(SettingsError, match=r"no credentials for s3://.*set AWS_ACCESS_KEY_ID"):
        Store(f"{bucket}/a", tmp_path).find("snapshot", "k")


def test_a_server_that_is_away_is_asked_again_later(
    s3_environment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s3fs import S3FileSystem

    retries = {"mode": "standard", "total_max_attempts": 2}
    options = root_module._S3_OPTIONS | {
        "config_kwargs": root_module._S3_OPTIONS["config_kwargs"] | {"retries": retries}
    }
    monkeypatch.setattr(root_module, "_S3_OPTIONS", options)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://somebody:password@127.0.0.1:{_free_port()}")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(StageRetry, match="did not answer for s3://any/a") as told:
        Store("s3://any/a", tmp_path).find("snapshot", "k")
    assert "password" not in str(told.value)


def test_a_folder_that_may_not_be_used_and_a_protocol_without_a_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path), tmp_path)

    def refused(path: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(root_module, "write_whole", refused)  # root may write anywhere
    with pytest.raises(SettingsError, match=r"not allowed to write to file://.*THETA_ARTIFACTS_URL"):
        store.begin_erasure()
    with pytest.raises(SettingsError, match="THETA_ARTIFACTS_URL is nosuch://x"):
        Store("nosuch://x", tmp_path)


def test_a_stage_says_so_and_ends_as_a_setting_that_is_wrong(s3_environment: str, tmp_path: Path) -> None:
    import os

    environment = {**os.environ, "THETA_HOME": str(tmp_path), "THETA_ARTIFACTS_URL": "s3://nowhere/a"}
    command = [
        sys.executable,
        "-m",
        "theta_ml",
        "stage",
        "validate",
        "--month",
        "2026-01",
        "--input",
        "s3://nowhere/a/snapshot/k",
    ]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == EXIT_CONFIG, ended.stderr
    assert ended.stderr.startswith("theta stage validate: there is no such bucket as s3://nowhere/a names")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [(412, b"<Error><Code>PreconditionFailed</Code><Message>At least one</Message></Error>"), (412, b"")],
)
def test_a_server_that_does_not_say_which_condition_failed(s3_environment: str, status: int, body: bytes) -> None:
    with _answering(status, body) as asked:
        assert not root_module.Root("s3://any/a").create("any/a/_COMPLETE", b"{}")
    assert asked == ["*"]


def test_a_condition_that_is_being_decided_for_another_is_tried_again(s3_environment: str) -> None:
    body = b"<Error><Code>ConditionalRequestConflict</Code><Message>Under way</Message></Error>"
    with _answering(409, body) as asked, pytest.raises(StageRetry, match="ConditionalRequestConflict"):
        root_module.Root("s3://any/a").create("any/a/_COMPLETE", b"{}")
    assert asked == ["*"]


@contextmanager
def _answering(status: int, body: bytes) -> Iterator[list[str | None]]:
    """A server that says the same to every PUT; the conditions that it was sent."""
    from s3fs import S3FileSystem

    asked: list[str | None] = []

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(self.headers["If-None-Match"])
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server, pytest.MonkeyPatch.context() as patch:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        S3FileSystem.clear_instance_cache()
        yield asked
        server.shutdown()
    S3FileSystem.clear_instance_cache()
