from collections import Counter

from theta_ml.evaluation.conversations import HeldOut, draw


def _month(month: str, count: int) -> list[HeldOut]:
    return [HeldOut(f"{month}/{number}", month, "irc", "unknown", "en", "short", []) for number in range(count)]


def _drawn(groups: dict[str, int], month: str, most: int) -> list[HeldOut]:
    return draw([c for name, count in groups.items() for c in _month(name, count)], month, most, seed=1)


def test_half_is_this_months_and_the_rest_is_spread_evenly() -> None:
    drawn = _drawn({"2026-01": 200, "2026-02": 5, "2026-03": 200, "2026-04": 300}, "2026-04", 100)
    counts = Counter(c.month for c in drawn)
    assert counts == {"2026-04": 50, "2026-02": 5, "2026-01": 23, "2026-03": 22} or counts["2026-03"] == 23
    assert len({c.conversation_id for c in drawn}) == len(drawn) == 100


def test_what_one_side_lacks_the_other_fills() -> None:
    assert Counter(c.month for c in _drawn({"2026-01": 90, "2026-02": 3}, "2026-02", 50)) == {
        "2026-01": 47,
        "2026-02": 3,
    }
    assert Counter(c.month for c in _drawn({"2026-01": 3, "2026-02": 90}, "2026-02", 50)) == {
        "2026-01": 3,
        "2026-02": 47,
    }
    assert len(_drawn({"2026-01": 4, "2026-02": 4}, "2026-02", 50)) == 8
    assert _drawn({"2026-01": 0}, "2026-01", 50) == []


def test_a_month_keeps_its_conversations_when_others_come() -> None:
    before = {c.conversation_id for c in _drawn({"2026-01": 100, "2026-02": 100}, "2026-02", 60)}
    after = {c.conversation_id for c in _drawn({"2026-01": 100, "2026-02": 100, "2026-03": 100}, "2026-03", 60)}
    earlier = {name for name in after if not name.startswith("2026-03")}
    assert earlier <= before
