import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from tests.registry.by_hand import theta, three
from tests.registry.pipeline import Pipeline
from theta_ml.registry.by_hand import Word, promote, roll_back
from theta_ml.registry.ledger import hold_of, open_ledger
from theta_ml.tracking import client


def _line(pipeline: Pipeline) -> list[tuple[str, int | None, int | None]]:
    return [(entry.decision, entry.champion_before, entry.champion_after) for entry in pipeline.ledger]


def test_to_roll_back_twice_goes_back_by_two_and_then_no_further(hand: Pipeline) -> None:
    three(hand)
    row = json.loads(theta("rollback", "--reason", "answers in French", "--actor", "ann", "--json").output)
    assert (row["decision"], row["champion_after"], row["actor"]) == ("rolled_back", 2, "ann")
    assert row["reason"] == "answers in French"
    thirty = datetime.now(UTC) + timedelta(days=30)
    assert abs(datetime.fromisoformat(row["expires_at"]) - thirty) < timedelta(minutes=5)
    assert hand.aliases["champion"] == 2
    assert "version 1" in theta("rollback", "--reason", "this one too").output
    refused = theta("rollback", "--reason", "and again", code=1).output
    assert "none before it to go back to; nothing was changed" in refused
    assert _line(hand)[3:] == [("rolled_back", 3, 2), ("rolled_back", 2, 1)]
    assert hand.aliases["champion"] == 1
    shown = theta("champion").output
    assert "version 1, trained up to 2026-01" in shown
    assert "this one too" in shown
    assert "answers in French" in theta("ledger", "--limit", "2").output
    rows = json.loads(theta("ledger", "--month", "2026-02", "--json").output)
    assert [each["decision"] for each in rows] == ["promoted", "rolled_back"]


def test_a_champion_put_in_by_hand_holds_until_it_expires(hand: Pipeline) -> None:
    three(hand)
    theta("promote", "1", "--reason", "the steady one", "--actor", "bob", "--until", "2999-12-31")
    with open_ledger(hand.settings) as ledger:
        assert "bob put version 1 in by hand until 2999-12-31" in hold_of(ledger)
        assert hold_of(ledger, datetime(3000, 1, 1, tzinfo=UTC)) == ""
    uris = hand.measured("2026-04", "held", "model 4", 1.0)
    held = hand.decide("2026-04", "held", uris).document["value"]
    assert held["decision"] == "evaluated"
    assert "bob put version 1 in by hand" in held["sentence"]
    soon = datetime.now(UTC) + timedelta(seconds=1)
    promote(hand.settings, 1, Word("bob", "until a moment from now", soon))
    with psycopg.connect(hand.settings.require_database()) as connection:
        connection.execute("SELECT pg_sleep_until(%s)", [soon])
    after = hand.measured("2026-05", "after", "model 5", 1.0)
    hand.promote("2026-05", "after", after, hand.decide("2026-05", "after", after))
    assert _line(hand)[3:] == [("manual", 3, 1), ("evaluated", 1, 1), ("manual", 1, 1), ("promoted", 1, 5)]
    # What was pinned is no champion twice: back from 5 leads to 1, and from there to 3, which 1 had replaced.
    roll_back(hand.settings, Word("bob", "back"))
    roll_back(hand.settings, Word("bob", "back"))
    assert [after for _, _, after in _line(hand)[-2:]] == [1, 3]


def test_what_makes_no_sense_is_refused_and_changes_nothing(hand: Pipeline) -> None:
    assert "there is no champion yet" in theta("rollback", "--reason", "why not", code=1).output
    three(hand)
    before, aliases = hand.ledger, hand.aliases
    assert "no version 9" in theta("promote", "9", "--reason", "x", code=1).output
    assert "needs a reason" in theta("promote", "2", "--reason", "  ", code=1).output
    assert "is past" in theta("promote", "2", "--reason", "x", "--until", "2020-01-31", code=1).output
    assert "nobody's name" in theta("promote", "2", "--reason", "x", "--actor", " ", code=1).output
    assert theta("promote", "two", "--reason", "x", code=2)
    assert theta("promote", "2", code=2)
    assert theta("rollback", "--reason", "x", "--until", "soon", code=2)
    uri = client(hand.settings).get_model_version(hand.settings.registered_model, "2").tags["theta.uri"]
    Path(uri.removeprefix("file://"), "model", "model.safetensors").unlink()
    for command in (("promote", "2"), ("rollback",)):
        refused = theta(*command, "--reason", "x", code=1).output
        assert "the model of version 2 is gone" in refused
        assert len(refused.strip().splitlines()) == 1
    assert (hand.ledger, hand.aliases) == (before, aliases)


def test_the_owner_cannot_rewrite_the_ledger_either(hand: Pipeline) -> None:
    three(hand)
    url = hand.settings.require_database()
    for statement in ("UPDATE ledger SET sentence = ''", "DELETE FROM ledger", "TRUNCATE ledger CASCADE"):
        with psycopg.connect(url) as owner:
            owner.execute("SET session_replication_role = replica")  # switches ordinary triggers off
            with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
                owner.execute(statement)
    with psycopg.connect(url) as owner, pytest.raises(psycopg.errors.CheckViolation, match="ledger_by_hand"):
        owner.execute(
            "INSERT INTO ledger (run_id, month, decision, sentence, actor, numbers, champion_after)"
            " VALUES ('x', '2026-01', 'manual', 's', 'ann', '{}', 1)"
        )
