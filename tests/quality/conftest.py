"""Fixtures of this room."""

import random
from pathlib import Path

import pytest

from tests.quality.snapshots import Bench, Conversation, by_month, dated, real


def shuffled(rows: list[Conversation]) -> list[Conversation]:
    """Files have an order of their own; months cut from them had drifted."""
    return random.Random(11).sample(rows, len(rows))


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(Path(tmp_path_factory.mktemp("quality")))


@pytest.fixture(scope="session")
def irc() -> dict[str, list[Conversation]]:
    """Real months of #ubuntu, 2005-02 to 2007-02: uneven, small, a sixth of the questions without an answer."""
    return {month: rows for month, rows in by_month(real("ubuntu_irc")).items() if "2005-02" <= month <= "2007-02"}


@pytest.fixture(scope="session")
def chats() -> dict[str, list[Conversation]]:
    """Topical-Chat in five months alike, with made-up dates and real ratings."""
    rows = shuffled(real("topical_chat"))
    months = [f"2026-{number:02d}" for number in range(1, 6)]
    return {month: dated(rows[place * 120 :][:120], month) for place, month in enumerate(months)}


@pytest.fixture(scope="session")
def orders() -> dict[str, list[Conversation]]:
    """Taskmaster-4 in three months with made-up dates: very short turns, many replies alike."""
    rows = shuffled(real("taskmaster4"))
    months = [f"2026-{number:02d}" for number in range(1, 4)]
    return {month: dated(rows[place * 150 :][:150], month) for place, month in enumerate(months)}
