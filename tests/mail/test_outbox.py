"""Who may carry a mail, when, and how often."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.mail.server import message
from theta_ml.landing.database import sql_folder
from theta_ml.landing.migrations import migrate
from theta_ml.mail.outbox import (
    FIRST_RETRY,
    LAST_RETRY,
    Claim,
    claim,
    enqueue,
    is_waiting,
    mark_failed,
    mark_sent,
    waiting,
    withdraw,
)

MAILS, POSTERS = 20, 6


def queue(url: str, name: str, kind: Any = "progress", run_id: str = "run", month: str = "2026-02") -> bool:
    with psycopg.connect(url) as connection:
        return enqueue(connection, message(name), run_id=run_id, month=month, kind=kind)


def take(url: str, message_id: str | None = None) -> Claim | None:
    with psycopg.connect(url) as connection:
        return claim(connection, message_id)


def pass_time(url: str, seconds: int) -> None:
    """For whoever looks at the outbox."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "UPDATE outbox SET next_try_at = next_try_at - %(s)s, claimed_until = claimed_until - %(s)s",
            {"s": timedelta(seconds=seconds)},
        )


def test_posters_at_once_claim_each_mail_once(database_url: str) -> None:
    for number in range(MAILS):
        queue(database_url, f"mail-{number}")
    together = Barrier(POSTERS)

    def post(_: int) -> list[str]:
        with psycopg.connect(database_url, autocommit=True) as connection:
            together.wait()
            taken = []
            while claimed := claim(connection):
                taken.append(claimed.message.message_id)
            return taken

    with ThreadPoolExecutor(POSTERS) as pool:
        taken = [message_id for part in pool.map(post, range(POSTERS)) for message_id in part]
    assert sorted(taken) == sorted(f"<mail-{number}@theta.test>" for number in range(MAILS))


def test_a_mail_is_there_only_if_what_it_reports_is(database_url: str) -> None:
    with pytest.raises(ZeroDivisionError), psycopg.connect(database_url) as connection:
        enqueue(connection, message("lost"), run_id="run", month="2026-02", kind="failed")
        raise ZeroDivisionError
    assert take(database_url) is None


def test_a_claim_that_ran_out_is_anothers_and_the_late_word_of_the_first_changes_nothing(database_url: str) -> None:
    queue(database_url, "mail")
    first = take(database_url)
    assert first and first.attempt == 1 and take(database_url) is None
    pass_time(database_url, 301)
    second = take(database_url)
    assert second and second.attempt == 2 and second.message == first.message
    with psycopg.connect(database_url) as connection:
        mark_failed(connection, first, "too late to say so")
        (row,) = waiting(connection)
        assert row.last_error is None and row.claimed_until is not None
        mark_sent(connection, second)
        mark_failed(connection, second, "it has left")
        assert waiting(connection) == []


def test_it_is_tried_again_after_ever_longer_pauses(database_url: str) -> None:
    queue(database_url, "mail")
    pauses = []
    for _ in range(7):
        claimed = take(database_url)
        assert claimed is not None
        with psycopg.connect(database_url) as connection:
            mark_failed(connection, claimed, "x" * 2000)
            (row,) = waiting(connection)
            now = connection.execute("SELECT clock_timestamp()").fetchone()
        assert now is not None and take(database_url) is None
        pauses.append(round((row.next_try_at - now[0]) / FIRST_RETRY))
        pass_time(database_url, 3600)
    assert pauses == [1, 2, 4, 8, 15, 15, 15] and LAST_RETRY == 15 * FIRST_RETRY
    assert row.attempts == 7 and len(row.last_error or "") == 500


def test_a_run_has_one_outcome_which_is_the_newest_until_it_leaves(database_url: str) -> None:
    assert queue(database_url, "wanted", "outcome")
    assert queue(database_url, "rejected", "outcome")  # nobody had heard of the question
    assert queue(database_url, "failed", "failed") and queue(database_url, "other", "outcome", run_id="run-2")
    with psycopg.connect(database_url) as connection:
        assert [row.subject.split()[-1] for row in waiting(connection, "run")] == ["rejected", "failed"]
    claimed = take(database_url, "<rejected@theta.test>")
    assert claimed is not None
    with psycopg.connect(database_url) as connection:
        assert mark_sent(connection, claimed)
    assert not queue(database_url, "promoted", "outcome")  # it has left
    with psycopg.connect(database_url) as connection:
        assert not is_waiting(connection, "<promoted@theta.test>")


def test_a_month_has_one_alarm(database_url: str) -> None:
    assert queue(database_url, "overdue", "overdue", run_id="a")
    assert not queue(database_url, "overdue-2", "overdue", run_id="b")
    assert queue(database_url, "overdue-3", "overdue", run_id="c", month="2026-03")


@pytest.mark.parametrize("name", ["rejected", "wanted"])
@pytest.mark.parametrize("word", [mark_sent, lambda connection, claim: mark_failed(connection, claim, "timed out")])
def test_what_is_renewed_while_the_old_one_is_carried_goes_too(database_url: str, word: Any, name: str) -> None:
    queue(database_url, "wanted", "outcome")
    old = take(database_url)
    assert old is not None
    assert queue(database_url, "wanted", "outcome") and take(database_url) is None  # the same again: it is on its way
    new = message(name, text="It is settled.")
    with psycopg.connect(database_url) as connection:
        assert enqueue(connection, new, run_id="run", month="2026-02", kind="outcome")
    with psycopg.connect(database_url) as connection:
        assert not word(connection, old)
        (row,) = waiting(connection)
        assert row.last_error is None
    claimed = take(database_url)
    assert claimed is not None and claimed.message == new
    with psycopg.connect(database_url) as connection:
        assert mark_sent(connection, claimed) and waiting(connection) == []


def test_what_has_not_left_is_taken_back_however_often_it_was_tried(database_url: str) -> None:
    names = ("new", "tried", "carried", "left")
    for name in names:
        queue(database_url, name, "outcome", run_id=name)
    tried, carried, left = (take(database_url, f"<{name}@theta.test>") for name in names[1:])
    assert tried and carried and left
    with psycopg.connect(database_url) as connection:
        mark_failed(connection, tried, "the server is away")
        mark_sent(connection, left)
        for name in names:
            withdraw(connection, name, "outcome")
        assert waiting(connection) == []
        assert not mark_failed(connection, carried, "the server is away")  # and its carrier tries no more
        assert waiting(connection) == []
        assert connection.execute("SELECT message_id FROM outbox").fetchall() == [("<left@theta.test>",)]


def test_what_was_queued_before_is_known_by_its_subject(empty_database_url: str, tmp_path: Path) -> None:
    for file in sorted(sql_folder().glob("*.sql")):
        if file.name < "0010":
            shutil.copy(file, tmp_path)
    migrate(empty_database_url, tmp_path)
    subjects = {"a": "rejected", "b": "failed", "c": "training continue at 40%"}
    with psycopg.connect(empty_database_url) as connection:
        for name, what in subjects.items():
            connection.execute(
                "INSERT INTO outbox (message_id, run_id, message) VALUES (%s, 'run', %s)",
                [name, Jsonb({"subject": f"Theta 2026-02: {what}"})],
            )
    shutil.copy(next(sql_folder().glob("0010*.sql")), tmp_path)
    migrate(empty_database_url, tmp_path)
    with psycopg.connect(empty_database_url) as connection:
        rows = connection.execute("SELECT message_id, kind, month FROM outbox ORDER BY message_id").fetchall()
    assert rows == [("a", "outcome", "2026-02"), ("b", "failed", "2026-02"), ("c", "progress", "2026-02")]
