"""The two commands as people call them."""

import json
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result

from tests.lineage.house import House
from theta_ml.cli import theta
from theta_ml.settings import Settings

TALK = [("user", "Where is the blue kettle?"), ("assistant", "On the second shelf, behind the lamp.")]


@pytest.fixture
def house(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("THETA_HOME", str(tmp_path))
    monkeypatch.setenv("THETA_DATABASE_URL", database_url)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    house = House(Settings(home=tmp_path, database_url=database_url))  # type: ignore[arg-type]
    messages = [{"role": role, "content": content} for role, content in TALK]
    times = {"created_at": "2026-01-05T12:00:00Z", "source": "app"}
    house.land(
        [
            {"id": "talk-one", "messages": messages, "user_id": "u[1]"} | times,
            {"id": "talk-two", "messages": messages} | times,
        ]
    )
    house.snapshot("2026-01", "r1")
    return house


def run(*arguments: str) -> Result:
    return CliRunner().invoke(theta, list(arguments))


def test_lineage_says_where_it_went(house: House) -> None:
    found = json.loads(run("lineage", "talk-one", "--json").stdout)
    assert found["landed"]["source"] == "app" and found["landed"]["messages"] == 2
    assert [row["month"] for row in found["snapshots"]] == ["2026-01"]
    assert found["snapshots"][0]["key"] in run("lineage", "talk-one").stdout


def test_what_was_never_seen_is_said_so(house: House) -> None:
    for arguments in (
        ["lineage", "c9"],
        ["erase", "--conversation", "c9", "--yes"],
        ["erase", "--user", "u9", "--yes"],
    ):
        result = run(*arguments)
        assert result.exit_code == 1 and "was ever seen here" in result.stderr
    assert house.found_in_database("c9", "u9") == []


def test_an_id_that_is_empty_names_nobody(house: House) -> None:
    """As `--conversation "$ID"` gives where the variable is not set; lines rejected for want of an id stay too."""
    house.land([{"id": "", "messages": [], "source": "app"}])
    for scope in ("--conversation", "--user"):
        result = run("erase", scope, " ", "--yes")
        assert result.exit_code == 2 and "empty" in result.stderr
    with psycopg.connect(house.settings.require_database()) as connection:
        assert connection.execute("SELECT count(*) FROM rejected_rows").fetchone() == (1,)


def test_nothing_is_erased_unasked(house: House) -> None:
    refused = run("erase", "--conversation", "talk-one")
    assert refused.exit_code == 2 and "--yes" in refused.stderr and "snapshot" in refused.stdout
    looked = json.loads(run("erase", "--conversation", "talk-one", "--dry-run", "--json").stdout)
    assert looked["landing"]["messages"] == 2 and len(looked["artifacts"]) == 1
    assert run("erase", "--conversation", "talk-one", "--user", "u[1]").exit_code == 2
    assert len(house.found_in("talk-one")) == 1 and "conversations" in house.found_in_database("talk-one")


def test_erase_tells_what_it_did_and_that_it_was_done(house: House) -> None:
    first = run("erase", "--conversation", "talk-one", "--yes", "--reason", "a letter")
    assert (
        first.exit_code == 0 and "talk-one is erased: erasure 1" in first.stdout and "No model learned" in first.stdout
    )
    assert "talk-one was erased already: erasure 1" in run("erase", "--conversation", "talk-one").stdout
    again = json.loads(run("erase", "--conversation", "talk-one", "--json").stdout)
    assert again["already"] and again["reason"] == "a letter" and again["report"]["landing"]["conversations"] == 1
    traced = run("lineage", "talk-one")
    assert traced.exit_code == 0 and "(a letter): erasure 1" in traced.stdout
    assert house.found_in("talk-one") == [] and house.found_in("talk-two")
    user = run("erase", "--user", "u[1]", "--yes")
    assert user.exit_code == 1 and "never" not in user.stdout  # of the user nothing is left by now
