"""The runner applies each file once, in order, and notices what was changed behind its back."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from theta_ml.landing.database import DatabaseUnreachable, connect_url
from theta_ml.landing.migrations import MigrationError, migrate
from theta_ml.settings import SettingsError


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name.removeprefix('m')}.sql").write_text(text)
    return folder


def test_applies_once_and_then_only_what_is_new(empty_database_url: str, tmp_path: Path) -> None:
    folder = write(
        tmp_path, m0001_a="CREATE TABLE a (x int); CREATE TABLE b (x int);", m0002_c="CREATE TABLE c (x int)"
    )
    assert migrate(empty_database_url, folder) == ["0001_a.sql", "0002_c.sql"]
    assert migrate(empty_database_url, folder) == []
    write(tmp_path, m0003_d="ALTER TABLE c ADD y text DEFAULT '100 %'")
    assert migrate(empty_database_url, folder) == ["0003_d.sql"]


def test_an_edited_file_is_named(empty_database_url: str, tmp_path: Path) -> None:
    migrate(empty_database_url, write(tmp_path, m0001_a="CREATE TABLE a (x int)"))
    with pytest.raises(MigrationError, match=r"0001_a\.sql was edited after it was applied"):
        migrate(empty_database_url, write(tmp_path, m0001_a="CREATE TABLE a (x bigint)"))


def test_a_file_that_fails_leaves_nothing_behind(empty_database_url: str, tmp_path: Path) -> None:
    folder = write(tmp_path, m0001_a="CREATE TABLE a (x int)", m0002_b="CREATE TABLE b (x int); SELECT nonsense")
    with pytest.raises(MigrationError, match=r"0002_b\.sql does not apply.*nonsense"):
        migrate(empty_database_url, folder)
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT to_regclass('a')::text, to_regclass('b')::text").fetchone() == ("a", None)


def test_a_database_newer_than_the_files_is_refused(empty_database_url: str, tmp_path: Path) -> None:
    migrate(empty_database_url, write(tmp_path, m0001_a="SELECT 1", m0002_b="SELECT 1"))
    (tmp_path / "0002_b.sql").unlink()
    with pytest.raises(MigrationError, match=r"0002_b\.sql, which this version lacks"):
        migrate(empty_database_url, tmp_path)


def test_several_at_once_apply_each_file_once(empty_database_url: str, tmp_path: Path) -> None:
    folder = write(tmp_path, m0001_a="CREATE TABLE a (x int); SELECT pg_sleep(0.2)")
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(lambda _: migrate(empty_database_url, folder), range(4)))
    assert sorted(applied) == [[], [], [], ["0001_a.sql"]]


def test_the_schema_applies(database_url: str) -> None:
    assert migrate(database_url) == []


def test_errors_name_the_setting_and_never_the_password() -> None:
    with pytest.raises(DatabaseUnreachable, match=r"127\.0\.0\.1:1 \(THETA_DATABASE_URL\)") as caught:
        connect_url("postgresql://theta:hunter2@127.0.0.1:1/theta")
    assert "hunter2" not in str(caught.value)
    for url in ("postgresql:/theta:hunter2@host/theta", "postgresql://theta:hun@ter2@host:1/theta"):
        with pytest.raises(SettingsError, match="THETA_DATABASE_URL is not a Postgres URL") as wrong:
            connect_url(url)
        assert "ter2" not in str(wrong.value)
