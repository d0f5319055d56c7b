"""Every format gives back what was written in it, and a reason for every row that is no conversation."""

import csv
import gzip
import json
from collections import Counter
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theta_ml.corpus.formats import file_rows
from theta_ml.corpus.formats.conversation import Conversation, Rejected
from theta_ml.landing.lines import UnreadableFile

Chat = list[tuple[str, str]]

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=40).filter(
    lambda text: not text.isspace()
)
CHAT: st.SearchStrategy[Chat] = st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), TEXT), min_size=1)
CHATS = st.lists(CHAT, max_size=8)


def as_messages(chats: list[Chat]) -> bytes:
    rows = [{"messages": [{"role": role, "content": text} for role, text in chat]} for chat in chats]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _sharegpt(chats: list[Chat]) -> list[object]:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return [{"conversations": [{"from": names[role], "value": text} for role, text in chat]} for chat in chats]


def as_sharegpt_lines(chats: list[Chat]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in _sharegpt(chats)).encode()


def as_sharegpt_array(chats: list[Chat]) -> bytes:
    return json.dumps(_sharegpt(chats), indent=2).encode()


def as_csv(chats: list[Chat]) -> bytes:
    out = StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(["conversation_id", "role", "content"])
    writer.writerows((number, role, text) for number, chat in enumerate(chats) for role, text in chat)
    return out.getvalue().encode()


def as_nested_parquet(chats: list[Chat]) -> bytes:
    struct = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    rows = [[{"role": role, "content": text} for role, text in chat] for chat in chats]
    return _parquet(pa.table({"messages": pa.array(rows, struct)}))


def as_flat_parquet(chats: list[Chat]) -> bytes:
    rows = [(number, role, text) for number, chat in enumerate(chats) for role, text in chat]
    columns = {"conversation_id": [r[0] for r in rows], "role": [r[1] for r in rows], "content": [r[2] for r in rows]}
    schema = pa.schema([("conversation_id", pa.int64()), ("role", pa.string()), ("content", pa.string())])
    return _parquet(pa.table(columns, schema))


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


WRITERS: list[tuple[str, Callable[[list[Chat]], bytes]]] = [
    ("messages", as_messages),
    ("sharegpt", as_sharegpt_lines),
    ("sharegpt", as_sharegpt_array),
    ("csv", as_csv),
    ("parquet", as_nested_parquet),
    ("parquet", as_flat_parquet),
]


def outcome(data: bytes, format_: str, **columns: str) -> tuple[list[Conversation], list[tuple[int, str]]]:
    """What was read, and (line, reason) of what was not."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(data)
        found = list(file_rows(path, format_, columns))
    good = [row.found for row in found if not isinstance(row.found, Rejected)]
    return good, [(row.line, row.found.reason) for row in found if isinstance(row.found, Rejected)]


def chats_of(found: list[Conversation]) -> list[Chat]:
    return [[(turn.role, turn.content) for turn in conversation.turns] for conversation in found]


@pytest.mark.parametrize(("format_", "write"), WRITERS, ids=lambda value: getattr(value, "__name__", value))
@settings(max_examples=40, deadline=None)
@given(chats=CHATS)
def test_what_is_written_is_read_again(format_: str, write: Callable[[list[Chat]], bytes], chats: list[Chat]) -> None:
    data = write(chats)
    for written in [data] if format_ == "parquet" else [data, gzip.compress(data)]:
        found, rejected = outcome(written, format_)
        assert chats_of(found) == chats
        assert rejected == []


def test_bad_lines_are_counted_each_with_its_reason_and_the_others_are_read() -> None:
    def line(*messages: object, **fields: object) -> bytes:
        return json.dumps({"messages": list(messages), **fields}).encode()

    good = {"role": "user", "content": "hello"}
    lines = [
        (line(good), None),
        (b'{"messages": [', "broken JSON"),
        (b"[1]", "not a JSON object"),
        (line(), "no messages"),
        (line("hello"), "message is not an object"),
        (line({"role": "tool", "content": "x"}), "unknown role"),
        (line({"role": 3, "content": "x"}), "unknown role"),
        (line(good, {"role": "assistant", "content": " \n\t"}), "empty text"),
        (line(good, {"role": "assistant", "content": None}), "empty text"),
        (line({"role": "user", "content": 3}), "text is not a string"),
        (line({"role": "user", "content": [{"type": "image_url"}]}), "message holds more than text"),
        (line({"role": "user", "content": "a\x00b"}), "NUL byte"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "lone surrogate"),
        (b'{"messages": [{"role": "user", "content": "\xff"}]}', "not UTF-8"),
        (line({"role": "user", "content": "\u00e9" * 500_001}), "message over 1 MB"),
        (line({"role": "user", "content": "x" * 10_000_001}), "line over 10 MB"),
        (line(good, rating="good"), "rating is not a number"),
        (line(good, id=["x"]), "id is neither a text nor a whole number"),
        (line(good, id="x" * 401), "id over 400 characters"),
        (b"", None),
        (line(good, id=7, language="de", rating=2, extra="passed over"), None),
    ]
    found, rejected = outcome(b"\n".join(data for data, _ in lines), "messages")
    assert rejected == [(number, reason) for number, (_, reason) in enumerate(lines, 1) if reason]
    assert [(c.id, c.language, c.rating) for c in found] == [(None, None, None), ("7", "de", 2.0)]


def test_openai_names_and_parts_of_text() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    record = {"messages": [{"role": "developer", "content": "be brief"}, {"role": "USER", "content": parts}]}
    found, _ = outcome(json.dumps(record).encode(), "messages")
    assert chats_of(found) == [[("system", "be brief"), ("user", "one\ntwo")]]


def test_alpaca_joins_instruction_and_input() -> None:
    rows = [
        {"instruction": "Add.", "input": "1 and 2", "output": "3"},
        {"instruction": "Greet.", "input": "", "output": "Hello.", "system": "Be kind."},
        {"instruction": "Say nothing.", "output": ""},
        {"output": "of nothing"},
    ]
    found, rejected = outcome(json.dumps(rows).encode(), "alpaca")
    assert chats_of(found) == [
        [("user", "Add.\n\n1 and 2"), ("assistant", "3")],
        [("system", "Be kind."), ("user", "Greet."), ("assistant", "Hello.")],
    ]
    assert rejected == [(3, "empty text"), (4, "empty text")]


def test_columns_are_what_the_file_calls_them() -> None:
    found, _ = outcome(b"question,answer\nWhy?,Because.\n", "csv", instruction="question", output="answer")
    assert chats_of(found) == [[("user", "Why?"), ("assistant", "Because.")]]
    record = {"instruction": "Sum up.", "context": "A long text.", "response": "Short.", "category": "x"}
    found, _ = outcome(json.dumps(record).encode(), "alpaca", input="context", output="response")
    assert chats_of(found) == [[("user", "Sum up.\n\nA long text."), ("assistant", "Short.")]]


def test_csv_rows_that_are_none_take_their_conversation_with_them() -> None:
    data = (
        b"conversation_id,role,content\n"
        b'1,user,"two\nlines, and ""quotes"""\n1,assistant,yes\n'
        b"2,user,hello\n2,assistant\n2,assistant,more\n"
        b"3,waiter,hello\n3,user,hi\n"
        b",user,whose\n"
        b"4,user,good\n"
    )
    found, rejected = outcome(data, "csv")
    assert chats_of(found) == [[("user", 'two\nlines, and "quotes"'), ("assistant", "yes")], [("user", "good")]]
    assert Counter(reason for _, reason in rejected) == {
        "other number of fields than the header": 1,
        "a row of it cannot be read": 1,
        "unknown role": 1,
        "no conversation_id": 1,
    }


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_separator_is_told_by_the_header(separator: str) -> None:
    data = f'instruction{separator}output\n"Why, or; how?"{separator}So.\n'
    found, rejected = outcome(data.encode(), "csv")
    assert chats_of(found) == [[("user", "Why, or; how?"), ("assistant", "So.")]]
    assert rejected == []


def test_text_with_speakers_is_turns() -> None:
    data = b"User: hello\nare you there?\nAssistant: yes\n\nstill the same turn\n\nHuman: bye\nAI: bye\n\nUser:\n"
    found, rejected = outcome(data, "text")
    assert chats_of(found) == [
        [("user", "hello\nare you there?"), ("assistant", "yes\n\nstill the same turn")],
        [("user", "bye"), ("assistant", "bye")],
    ]
    assert rejected == [(10, "empty text")]


def test_text_without_speakers_is_documents() -> None:
    found, rejected = outcome(b"\nA first one\nof two lines.\n\n\nNote: a second.\n", "text")
    assert chats_of(found) == [[("assistant", "A first one\nof two lines.")], [("assistant", "Note: a second.")]]
    assert rejected == []


def test_parquet_with_bytes_that_are_no_text_loses_that_row_only() -> None:
    texts = pa.array([b"good", b"\xff\xfe", b"also good"], pa.binary()).view(pa.string())
    table = pa.table({"instruction": pa.array(["a", "b", "c"]), "output": texts})
    found, rejected = outcome(_parquet(table), "parquet")
    assert [chat[1][1] for chat in chats_of(found)] == ["good", "also good"]
    assert rejected == [(2, "not UTF-8")]


@pytest.mark.parametrize("format_", ["messages", "sharegpt", "alpaca", "text", "csv", "parquet"])
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode(errors="surrogatepass")))
def test_any_bytes_end_in_rows_reasons_or_an_error_that_names_the_file(format_: str, data: bytes) -> None:
    try:
        outcome(data, format_)
    except UnreadableFile as error:
        assert "file" in str(error)


def test_a_table_without_known_columns_names_what_it_has_and_what_to_write(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("frage,antwort\na,b\n")
    with pytest.raises(UnreadableFile, match=r"frage, antwort.*instruction and output"):
        file_rows(path, "csv", {})


def test_an_array_that_breaks_off_says_where(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(_sharegpt([[("user", "x")]] * 3))[:-9])
    with pytest.raises(UnreadableFile, match="element 3"):
        list(file_rows(path, "sharegpt", {}))


def test_a_gzip_file_that_breaks_off_is_named(tmp_path: Path) -> None:
    chats: list[Chat] = [[("user", str(number) * 9)] for number in range(2000)]
    for format_, write in WRITERS[:4]:
        path = tmp_path / format_
        path.write_bytes(gzip.compress(write(chats))[:-40])
        with pytest.raises(UnreadableFile, match=str(path)):
            list(file_rows(path, format_, {}))
