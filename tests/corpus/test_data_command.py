"""`theta data`, as a person runs it."""

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from click.testing import CliRunner, Result

from theta_ml.corpus.commands import data
from theta_ml.landing.months import make_months

TABLE = 'conversation_id,role,content\n1,user,"Mail a@b.example"\n1,assistant,Done.\n2,waiter,hm\n'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THETA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("THETA_DATABASE_URL", raising=False)
    monkeypatch.delenv("THETA_CATALOG", raising=False)
    (tmp_path / "t.csv").write_text(TABLE)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(data, arguments)


def run_json(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_list_shows_sets_with_counts_licence_and_weight(home: Path) -> None:
    rows = run_json("list")
    starters = [row for row in rows if row["source"] == "starter" and row["id"] != "canaries"]
    assert len(starters) >= 13
    assert all(row["conversations"] >= 60 and row["licence"] and row["weight"] > 0 for row in starters)
    (landing,) = [row for row in rows if row["id"] == "landing"]
    assert landing["conversations"] is None
    assert "THETA_DATABASE_URL" in landing["note"]
    assert "smartass" in run("list").output


def test_add_reads_writes_and_shows_what_was_rejected(home: Path) -> None:
    result = run("add", "tickets", "--path", str(home / "t.csv"), "--licence", "mit", "--weight", "0.5")
    assert result.exit_code == 0, result.output
    assert "1 conversations, 2 messages, 3 words" in result.output
    assert "1 rows rejected: unknown role" in result.output
    written = yaml.safe_load((home / "home" / "catalog.yaml").read_text())
    assert written["datasets"][0] | {"path": None} == {
        "id": "tickets", "category": "own", "format": "csv", "path": None, "licence": "MIT", "weight": 0.5,
        "source": "file",
    }  # fmt: skip
    (row,) = [row for row in run_json("list") if row["id"] == "tickets"]
    assert (row["conversations"], row["weight"], row["licence"]) == (1, 0.5, "MIT")


def test_show_is_redacted(home: Path) -> None:
    run("add", "tickets", "--path", str(home / "t.csv"), "--licence", "MIT")
    shown = run_json("show", "tickets")
    assert shown["sample"][0]["messages"][0]["content"] == "Mail [EMAIL_1]"
    assert "a@b" not in run("show", "tickets").output


def test_counts_follow_the_file(home: Path) -> None:
    run("add", "tickets", "--path", str(home / "t.csv"), "--licence", "MIT")
    (home / "t.csv").write_text(TABLE + "3,user,hello\n")
    (row,) = run_json("stats", "tickets")
    assert (row["conversations"], row["messages"], row["words"]) == (2, 3, 4)
    assert row["rejected"] == {"unknown role": 1}
    assert sum(row["splits"].values()) == 2


def test_a_weight_of_a_built_in_set_changes_without_reading_it(home: Path) -> None:
    assert run("add", "smartass", "--weight", "0.25").exit_code == 0
    (row,) = [row for row in run_json("list") if row["id"] == "smartass"]
    assert row["weight"] == 0.25
    assert run("add", "smartass", "--disable").exit_code == 0
    assert run_json("show", "smartass")["enabled"] is False


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "x", "--path", "{home}/none.csv", "--licence", "MIT"], "none.csv"),
        (["add", "x", "--path", "{home}/t.csv", "--format", "sharegpt", "--licence", "MIT"], "4 × broken JSON"),
        (["add", "x", "--path", "{home}/t.csv", "--licence", "Foo"], "no SPDX licence"),
        (["add", "x", "--path", "{home}/t.csv"], "--licence"),
        (["add", "x"], "--path"),
        (["add", "X Y", "--path", "{home}/t.csv", "--licence", "MIT"], "id"),
        (["add", "x", "--path", "{home}/t.csv", "--licence", "MIT", "--column", "a"], "OURS=THEIRS"),
        (["add", "x", "--path", "{home}", "--licence", "MIT"], "is a folder"),
        (["add", "x", "--path", "{home}/t.csv", "--hub", "a/b", "--licence", "MIT"], "one of them"),
        (["show", "nope"], "the catalog has no dataset nope; it has: landing"),
    ],
)
def test_what_cannot_be_added_is_refused_and_nothing_is_written(home: Path, arguments: list[str], said: str) -> None:
    result = run(*(argument.format(home=home) for argument in arguments))
    assert result.exit_code in (1, 2)
    assert said in result.output
    assert not (home / "home" / "catalog.yaml").exists()


def test_a_catalog_that_is_not_there_yet_is_begun(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THETA_CATALOG", str(home / "of" / "ours.yaml"))
    refused = run("list")
    assert refused.exit_code == 1 and "theta data add" in refused.output
    assert run("add", "tickets", "--path", str(home / "t.csv"), "--licence", "MIT").exit_code == 0
    assert "tickets" in run("list").output


def test_counts_of_the_landing_zone_and_of_what_corpora_took(
    home: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THETA_DATABASE_URL", database_url)
    with psycopg.connect(database_url) as connection:
        make_months(connection, ["2026-01"])
        connection.execute(
            "INSERT INTO conversations (conversation_id, source, occurred_at) VALUES ('c1', 'app', '2026-01-02')"
        )
        for corpus, conversation, source, split in (
            ("k1", "c1", "app", "train"), ("k1", "smartass/1", "smartass", "train"),
            ("k2", "smartass/1", "smartass", "train"), ("k2", "smartass/2", "smartass", "validation"),
        ):  # fmt: skip
            connection.execute(
                "INSERT INTO training_data (corpus_key, conversation_id, source, month, split, tokens, taken_at)"
                " VALUES (%s, %s, %s, '2026-01', %s, 10, clock_timestamp())",
                [corpus, conversation, source, split],
            )
    landing, smartass = run_json("stats", "landing", "smartass")
    assert landing["conversations"] == 1
    assert landing["taken"] == [{"corpus_key": "k1", "month": "2026-01", "conversations": {"train": 1}, "tokens": 10}]
    assert [each["corpus_key"] for each in smartass["taken"]] == ["k2", "k1"]
    assert smartass["taken"][0]["conversations"] == {"train": 1, "validation": 1}
    assert smartass["taken"][0]["tokens"] == 20
    (row,) = [row for row in run_json("list") if row["id"] == "landing"]
    assert row["conversations"] == 1
