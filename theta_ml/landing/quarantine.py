"""Conversations that are set aside, and why: the expectations marked `"quarantine": true`, as SQL.

Great Expectations judges a month as a whole and keeps its lists of failing rows short; what it says of each row, this
says of every row, from the same JSON. A conversation is set aside where it breaks a rule of `conversations.json`, or
one of its messages breaks one of `messages.json`.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from theta_ml.landing.database import query
from theta_ml.landing.suites import SUITES, digest, read_suite
from theta_ml.stage import StageFailed

Kwargs = dict[str, Any]
Faults = dict[str, list[str]]
"""Conversation id → names of the rules it breaks, sorted; sound conversations are not in it."""


class Values(dict[str, Any]):
    """What a query is given beside its text."""

    def bind(self, value: Any) -> sql.Placeholder:
        name = f"value_{len(self)}"
        self[name] = value
        return sql.Placeholder(name)


@dataclass(frozen=True)
class Rule:
    """One way for a row to be unfit."""

    name: str
    suite: str
    reason: str
    """In words that follow `the conversation …`."""
    type: str
    kwargs: Kwargs


def rules() -> list[Rule]:
    """Of all suites, in their order. Raises StageFailed where one cannot be told of a single row."""
    found = [_rule(suite, each) for suite in SUITES for each in read_suite(suite)["expectations"] if _is_rule(each)]
    names = [rule.name for rule in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise StageFailed(f"expectations/ names two quarantine rules {twice[0]!r}: each needs a name of its own")
    for rule in found:
        _broken(rule, Values())
    return found


@dataclass(frozen=True)
class Aside:
    """A conversation that is set aside for one rule, told without a word of it."""

    month: str
    conversation_id: str
    rule: str
    reason: str


def set_aside_newest(connection: psycopg.Connection, month: str | None = None) -> list[Aside]:
    """Of the newest snapshot of the month, or of each: a row for each rule that a conversation breaks."""
    with connection.cursor(row_factory=class_row(Aside)) as cursor:
        return cursor.execute(
            "SELECT month, conversation_id, rule, reason FROM newest_quarantine"
            " WHERE %(month)s::text IS NULL OR month = %(month)s ORDER BY month, conversation_id, rule",
            {"month": month},
        ).fetchall()


def reasons() -> dict[str, str]:
    """Rule → why a conversation that breaks it is set aside."""
    return {rule.name: rule.reason for rule in rules()}


def rules_digest() -> str:
    """Changes with any edit of a rule, and of the features that rules speak of."""
    features = [query(f"{suite}_features").decode() for suite in SUITES]
    return digest([asdict(rule) for rule in rules()], features)


def faults_of(connection: psycopg.Connection, found: list[Rule], arguments: dict[str, Any]) -> Faults:
    """Of the conversations in [`start`, `end`) at `watermark`, of these the `shard` of `shards`.

    Raises StageFailed where a rule names no feature.
    """
    if not found:
        return {}
    values = Values(arguments)
    parts = [_suite_query(suite, [rule for rule in found if rule.suite == suite], values) for suite in SUITES]
    union = sql.SQL(" UNION ").join(part for part in parts if part is not None)
    statement = sql.SQL(
        "SELECT conversation_id, array_agg(rule ORDER BY rule) FROM ({}) AS broken GROUP BY conversation_id"
    ).format(union)
    try:
        return dict(psycopg.ClientCursor(connection).execute(statement, values).fetchall())
    except (psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedFunction, psycopg.DataError) as error:
        raise StageFailed(
            f"a quarantine rule of expectations/ cannot be applied: {error.diag.message_primary}; rules may name the"
            " columns of sql/queries/conversations_features.sql and messages_features.sql"
        ) from None


def _is_rule(expectation: dict[str, Any]) -> bool:
    return bool(expectation.get("meta", {}).get("quarantine"))


def _rule(suite: str, expectation: dict[str, Any]) -> Rule:
    meta, kwargs = expectation["meta"], expectation["kwargs"]
    name = meta.get("name")
    if not name:
        raise StageFailed(
            f"expectations/{suite}.json: a quarantine rule ({expectation['type']}) has no `name` in its meta"
        )
    told = {key: value for key, value in kwargs.items() if key != "mostly"}
    if any(isinstance(value, dict) for value in told.values()):
        raise StageFailed(f"quarantine rule {name!r}: its bounds must be numbers, it is applied to every month alike")
    return Rule(name, suite, meta.get("reason", f"breaks the rule {name!r}"), expectation["type"], told)


def _suite_query(suite: str, found: list[Rule], values: Values) -> sql.Composed | None:
    """(conversation_id, rule) of every row that breaks one; Postgres computes no feature that none of them names."""
    if not found:
        return None
    broken = [(values.bind(rule.name), _broken(rule, values)) for rule in found]
    named = sql.SQL(", ").join(sql.SQL("CASE WHEN {} THEN {} END").format(when, name) for name, when in broken)
    return sql.SQL(
        "SELECT conversation_id, rule FROM (SELECT conversation_id, unnest(ARRAY[{named}]) AS rule"
        " FROM ({features}) AS features WHERE {any_of}) AS found WHERE rule IS NOT NULL"
    ).format(
        named=named,
        features=sql.SQL(query(f"{suite}_features").decode()),
        any_of=sql.SQL(" OR ").join(when for _, when in broken),
    )


def _broken(rule: Rule, values: Values) -> sql.Composable:
    """When a row breaks it: as Great Expectations has it, a missing value breaks no rule but that it be there."""
    translate = _TRANSLATIONS.get(rule.type)
    if translate is None:
        raise StageFailed(f"quarantine rule {rule.name!r}: no row can be judged by {rule.type}; {_known()}")
    needed, optional, condition = translate
    if wrong := sorted(set(rule.kwargs) - needed - optional) or sorted(needed - set(rule.kwargs)):
        raise StageFailed(f"quarantine rule {rule.name!r}: {', '.join(wrong)} is not what {rule.type} needs here")
    return sql.SQL("({})").format(condition(rule.kwargs, values))


def _known() -> str:
    return "rows are judged by: " + ", ".join(_TRANSLATIONS)


def _column(kwargs: Kwargs, key: str = "column") -> sql.Identifier:
    return sql.Identifier(kwargs[key])


def _is_null(kwargs: Kwargs, values: Values) -> sql.Composable:
    return sql.SQL("{} IS NULL").format(_column(kwargs))


def _is_not_null(kwargs: Kwargs, values: Values) -> sql.Composable:
    return sql.SQL("{} IS NOT NULL").format(_column(kwargs))


def _outside(kwargs: Kwargs, values: Values) -> sql.Composable:
    return _beyond(_column(kwargs), kwargs, values)


def _length_outside(kwargs: Kwargs, values: Values) -> sql.Composable:
    return _beyond(sql.SQL("char_length({})").format(_column(kwargs)), kwargs, values)


def _beyond(value: sql.Composable, kwargs: Kwargs, values: Values) -> sql.Composable:
    return sql.SQL(" OR ").join(_ends(value, kwargs, values))


def _ends(value: sql.Composable, kwargs: Kwargs, values: Values) -> Iterator[sql.Composable]:
    for end, strict, beyond in (("min_value", "strict_min", "<"), ("max_value", "strict_max", ">")):
        if kwargs.get(end) is not None:
            comparison = sql.SQL(f"{beyond}=" if kwargs.get(strict) else beyond)
            yield sql.SQL("{} {} {}").format(value, comparison, values.bind(kwargs[end]))


def _not_in(kwargs: Kwargs, values: Values) -> sql.Composable:
    return sql.SQL("{} <> ALL ({})").format(_column(kwargs), values.bind(kwargs["value_set"]))


def _in(kwargs: Kwargs, values: Values) -> sql.Composable:
    return sql.SQL("{} = ANY ({})").format(_column(kwargs), values.bind(kwargs["value_set"]))


def _no_match(kwargs: Kwargs, values: Values) -> sql.Composable:
    return sql.SQL("{} !~ {}").format(_column(kwargs), values.bind(kwargs["regex"]))


def _match(kwargs: Kwargs, values: Values) -> sql.Composable:
    return sql.SQL("{} ~ {}").format(_column(kwargs), values.bind(kwargs["regex"]))


def _not_greater(kwargs: Kwargs, values: Values) -> sql.Composable:
    comparison = sql.SQL("<" if kwargs.get("or_equal") else "<=")
    return sql.SQL("{} {} {}").format(_column(kwargs, "column_A"), comparison, _column(kwargs, "column_B"))


_BOUNDS = {"min_value", "max_value", "strict_min", "strict_max"}
_TRANSLATIONS: dict[str, tuple[set[str], set[str], Callable[[Kwargs, Values], sql.Composable]]] = {
    "expect_column_values_to_not_be_null": ({"column"}, set(), _is_null),
    "expect_column_values_to_be_null": ({"column"}, set(), _is_not_null),
    "expect_column_values_to_be_between": ({"column"}, _BOUNDS, _outside),
    "expect_column_value_lengths_to_be_between": ({"column"}, _BOUNDS, _length_outside),
    "expect_column_values_to_be_in_set": ({"column", "value_set"}, set(), _not_in),
    "expect_column_values_to_not_be_in_set": ({"column", "value_set"}, set(), _in),
    "expect_column_values_to_match_regex": ({"column", "regex"}, set(), _no_match),
    "expect_column_values_to_not_match_regex": ({"column", "regex"}, set(), _match),
    "expect_column_pair_values_a_to_be_greater_than_b": ({"column_A", "column_B"}, {"or_equal"}, _not_greater),
}
"""Expectation → arguments it needs, arguments it may have, and when a row breaks it."""
