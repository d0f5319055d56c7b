"""How datasets are written down: what a row looks like (DESCRIPTIONS), and how a file of such rows is read."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from theta_ml.corpus.formats.conversation import Row
from theta_ml.corpus.formats.files import csv_columns, csv_records, json_records, parquet_columns, parquet_records
from theta_ml.corpus.formats.layouts import alpaca, messages, rows, sharegpt, table
from theta_ml.corpus.formats.text import text_rows
from theta_ml.landing.lines import UnreadableFile

DESCRIPTIONS = {
    "messages": '{"id"?, "messages": [{"role": "user", "content": "…"}]}, a line each; OpenAI\'s for fine-tuning too',
    "sharegpt": '{"id"?, "conversations": [{"from": "human", "value": "…"}]}, a line each or one JSON array',
    "alpaca": '{"instruction", "input"?, "output"}, a line each or one JSON array',
    "text": "turns `User: …`, `Assistant: …`, or documents; a blank line between conversations",
    "csv": "a header, then a message a row (conversation_id, role, content), or instruction, output",
    "parquet": "columns messages, conversations, instruction and output, or conversation_id, role and content",
}
"""What is not Parquet may be .gz."""
PARSERS = {"messages": messages, "sharegpt": sharegpt, "alpaca": alpaca}


def file_rows(path: Path, format_: str, columns: Mapping[str, str]) -> Iterator[Row]:
    """The conversations of a file, and the rows that are none, as they are read. Raises UnreadableFile."""
    if format_ in PARSERS:
        return rows(json_records(path), PARSERS[format_](columns))
    if format_ == "text":
        return text_rows(path)
    present = csv_columns(path) if format_ == "csv" else parquet_columns(path)
    reader = table(columns, present)
    if reader is None:
        raise UnreadableFile(
            f"{path} has the columns {', '.join(present) or 'none'}, of which none are known; name them with columns: "
            "conversation_id, role and content, or instruction and output (such as `{output: answer}`; "
            "`theta data add ID --column output=answer`)"
        )
    return reader(csv_records(path) if format_ == "csv" else parquet_records(path))
