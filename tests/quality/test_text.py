"""What the gate asks of a text in Postgres and what profiles and drift ask of it in a snapshot is the same."""

import random
from pathlib import Path
from typing import Any

import polars as pl
import psycopg

from tests.quality import damage
from tests.quality.landed import Landed, Months
from theta_ml.landing.database import query
from theta_ml.landing.shards import WHOLE
from theta_ml.quality.text import LETTER_OR_DIGIT, PATTERNS

FLAGS = {
    "mojibake": "mojibake",
    "lost_characters": "unreadable + lost_characters",
    "control_characters": "control_characters",
    "machine_output": "machine_output",
    "error_message": "error_reply",
    "unbroken_run": "unbroken_run",
}
"""Pattern, and the features that say the same."""
EXAMPLES = (
    """
caf?s na?ve|what?is|好?ok then|É?té|a?B|п?ивет|λ?όγος|Really?yes|Itâ€™s|Ã©tude|ðŸ˜€|Привет|Ð¿Ñ€|Â|São Paulo|ï»¿Hi
\ufffd|\x1b[31mred|tab\tand\u0085next|\u0081|\ue000|x\ufeff|\ufeff|<p>hi</p>|<pre>|a < b > c|<BR/>|<html lang="en">
<!DOCTYPE html><html>|<html|{"a": 1}|["x"]|[1, 2]|{ x }|Internal Server Error|500 Internal server error
an unexpected error|An error occurred.|Error: 404|Error handling|error 500!|HTTP/1.1 502|http 200|Bad gateway|null|NULL
None|none of it|undefined|[object Object]|nan|Traceback (most recent call last)|503: service temporarily unavailable
upstream request timeout|Too many requests|-- gateway timeout|request failed|?!|…|🙂|42|ok
""".strip()
    .replace("\n", "|")
    .split("|")
)


def asked(landed: Landed, texts: list[str]) -> dict[str, list[bool]]:
    """Of each text as a reply, in Postgres."""
    messages = [{"role": "assistant", "content": text} for text in texts]
    row = {"id": "all", "source": "test", "created_at": "2026-01-05T00:00:00+00:00", "messages": messages}
    landed.land({"2026-01": [row]})
    span: dict[str, Any] = {"start": "2026-01-01Z", "end": "2026-02-01Z", "watermark": "2100-01-01Z", **WHOLE.arguments}
    columns = ", ".join(f"({feature}) > 0" for feature in (*FLAGS.values(), "blank"))
    statement = f"SELECT {columns} FROM ({query('messages_features').decode()}) AS features ORDER BY position"
    with psycopg.connect(landed.url) as connection:
        rows = psycopg.ClientCursor(connection).execute(statement, span).fetchall()
    return dict(zip((*FLAGS, "blank"), map(list, zip(*rows, strict=True)), strict=True))


def test_postgres_and_polars_agree(database_url: str, tmp_path: Path, chats: Months) -> None:
    dice = random.Random(5)
    said = [message["content"] for row in chats["2026-01"] for message in row["messages"]][:150]
    edits = [damage.mojibake, damage.read_as_latin1, damage.replaced, damage.question_marks, damage.escape_sequences,
             damage.html_page, damage.json_object, damage.fault, damage.encoded]  # fmt: skip
    texts = [*EXAMPLES, "x" * 60, "null" + " " * 60, *said, *(edit(text, dice) for edit in edits for text in said[:20])]
    found, series = asked(Landed(database_url, tmp_path), texts), pl.Series(texts)
    ours = {name: series.str.contains(pattern).to_list() for name, pattern in PATTERNS.items()}
    ours["blank"] = (~series.str.contains(LETTER_OR_DIGIT)).to_list()
    for name, flags in ours.items():
        assert any(flags)
        assert [texts[at] for at, flag in enumerate(flags) if flag != found[name][at]] == [], name
