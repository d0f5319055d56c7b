"""What is read of conversations before they are forgotten: lengths, flags and hashes, a row a conversation and a row a
message. It is read a row group at a time, so that a month of a million messages never lies in memory as text.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from theta_ml.quality.text import LETTER_OR_DIGIT, PATTERNS

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa
    from numpy.typing import NDArray

COLUMNS = ("source", "language", "topic", "rating", "user_id", "occurred_at", "messages")
"""Of the snapshot's: all that is read."""
ROLES = ("user", "assistant", "system")
TRUNCATION_LENGTH = 20
"""Shorter replies share their length by nature ("ok", "thanks"), longer ones where something cuts them."""
TEMPLATE_LENGTH = 40
"""Characters from which on an opening or an ending that many messages share is a template's, no figure of speech."""

_DAMAGE = ("mojibake", "lost_characters", "control_characters")
_MACHINE = ("machine_output", "unbroken_run")
_NUMBER = r"\b[0-9a-f-]*[0-9][0-9a-f-]*\b"
_PART = 24
_WORD = r"\p{L}{3,20}"
_OPEN_END = r"\p{L}{3}$"


@dataclass(frozen=True)
class Scan:
    """Conversations without their texts, numbered from 0."""

    conversations: "pl.DataFrame"
    """source, language, topic, rating, user (a number within the month), occurred_at, turns."""
    messages: "pl.DataFrame"
    """conversation, role, chars, words, rating, said (hash), masked (hash without numbers), opening and ending (hashes;
    missing on short texts), damaged, machine_output, error_message, blank, echo, repeated."""
    words: "pl.DataFrame"
    """conversation, role, word (hash), as often as it is said; of the conversations that were to be read so."""
    ends: "pl.DataFrame"
    """conversation, last, before (hashes): the last two words of a message that does not end in punctuation."""
    names: dict[int, str]
    """Hash to word, of all in `words`. It is text: it must not outlive the month's own, see `digest`."""

    def __len__(self) -> int:
        return len(self.conversations)

    def take(self, rows: "NDArray[np.int64]") -> Self:
        """Those conversations, in that order, numbered anew."""
        import numpy as np
        import polars as pl

        place = pl.DataFrame({"conversation": rows.astype(np.uint32), "place": np.arange(len(rows), dtype=np.uint32)})

        def of(table: pl.DataFrame) -> pl.DataFrame:
            kept = table.join(place, on="conversation", maintain_order="left")
            return (
                kept.with_columns(conversation=pl.col("place")).drop("place").sort("conversation", maintain_order=True)
            )

        return type(self)(self.conversations[rows], of(self.messages), of(self.words), of(self.ends), self.names)


def scan(table: "pa.Table", worded: "NDArray[np.bool_] | None" = None) -> Scan:
    """`table` as the snapshot has it; `worded` says whose words are read, everybody's by default."""
    import numpy as np
    import polars as pl

    messages = _messages(table)
    conversations = _conversations(table)
    whose = messages
    if worded is not None:
        whose = messages.filter(pl.Series(worded)[messages["conversation"]])
    words, ends, names = _words(whose)
    features = _described(messages)
    turns = np.bincount(messages["conversation"].to_numpy(), minlength=len(conversations)).astype(np.uint32)
    return Scan(conversations.with_columns(turns=pl.Series(turns)), features, words, ends, names)


def joined(scans: Iterable[Scan]) -> Scan:
    """One after the other, numbered through."""
    import polars as pl

    scans, start, parts = list(scans), 0, []
    for each in scans:
        parts.append([_shifted(table, start) for table in (each.messages, each.words, each.ends)])
        start += len(each)
    messages, words, ends = (pl.concat(tables) for tables in zip(*parts, strict=True))
    names = {code: word for each in scans for code, word in each.names.items()}
    return Scan(pl.concat([each.conversations for each in scans]), messages, words, ends, names)


def _shifted(table: "pl.DataFrame", start: int) -> "pl.DataFrame":
    import polars as pl

    return table.with_columns((pl.col("conversation") + start).cast(pl.UInt32))


def _conversations(table: "pa.Table") -> "pl.DataFrame":
    import polars as pl

    frame = pl.DataFrame(pl.from_arrow(table.select([name for name in COLUMNS if name != "messages"])))
    return frame.with_columns(
        pl.col("source", "language", "topic").cast(pl.String),
        pl.col("rating").cast(pl.Float32),
        pl.col("occurred_at").cast(pl.Datetime("us", "UTC")),
        user=pl.when(pl.col("user_id").is_not_null()).then(pl.col("user_id").cast(pl.String).hash()),
    ).drop("user_id")


def _messages(table: "pa.Table") -> "pl.DataFrame":
    """conversation, role, content, rating."""
    import polars as pl
    import pyarrow as pa
    import pyarrow.compute as pc

    column = table["messages"].combine_chunks()
    lists = column.chunk(0) if isinstance(column, pa.ChunkedArray) and column.num_chunks else column
    flat, parents = pc.list_flatten(lists), pc.list_parent_indices(lists)
    parts = {name: pc.struct_field(flat, name) for name in ("role", "content", "rating")}
    frame = pl.DataFrame(pl.from_arrow(pa.table({"conversation": parents, **parts})))
    return frame.with_columns(
        pl.col("conversation").cast(pl.UInt32), pl.col("role").cast(pl.Enum(ROLES)), pl.col("rating").cast(pl.Float32)
    )


def _described(messages: "pl.DataFrame") -> "pl.DataFrame":
    import polars as pl

    plain = pl.col("content").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
    measured = messages.with_columns(
        plain=plain,
        chars=pl.col("content").str.len_chars(),
        words=pl.col("content").str.count_matches(r"\S+"),
        blank=~pl.col("content").str.contains(LETTER_OR_DIGIT),
    )
    measured = pl.concat([measured, _flags(messages)], how="horizontal")
    numbered = measured["plain"].str.contains(r"[0-9]")
    bare = measured["plain"].zip_with(~numbered, measured["plain"].str.replace_all(_NUMBER, "0"))
    long = measured["chars"] >= TEMPLATE_LENGTH
    same = (pl.col("said") == pl.col("said").shift()) & (pl.col("conversation") == pl.col("conversation").shift())
    reply, before = pl.col("role") == "assistant", pl.col("role").shift()
    return measured.with_columns(
        said=pl.col("plain").hash(),
        masked=bare.hash(),
        opening=pl.when(long).then(bare.str.head(_PART).hash()),
        ending=pl.when(long).then(bare.str.tail(_PART).hash()),
    ).with_columns(
        echo=(same & reply & (before != "assistant")).fill_null(False),
        repeated=(same & (before == pl.col("role"))).fill_null(False),
    ).drop("content", "plain")  # fmt: skip


def _flags(messages: "pl.DataFrame") -> "pl.DataFrame":
    """damaged, machine_output and error_message: one look at all, and a second one at what seemed odd."""
    import numpy as np
    import polars as pl

    content = messages["content"]
    found = {name: np.zeros(len(content), bool) for name in ("damaged", "machine_output", "error_message")}
    odd = content.str.contains("|".join(f"(?:{pattern})" for pattern in PATTERNS.values())).arg_true()
    for flag, names in zip(found, (_DAMAGE, _MACHINE, ("error_message",)), strict=True):
        for name in names:
            found[flag][odd.to_numpy()] |= content[odd].str.contains(PATTERNS[name]).to_numpy()
    return pl.DataFrame(found)


def _words(messages: "pl.DataFrame") -> tuple["pl.DataFrame", "pl.DataFrame", dict[int, str]]:
    import polars as pl

    lower = pl.col("content").str.to_lowercase()
    said = messages.select(
        "conversation", "role", word=lower.str.extract_all(_WORD), open=lower.str.contains(_OPEN_END)
    )
    ends = said.filter(pl.col("open") & (pl.col("word").list.len() > 1)).select(
        "conversation", last=pl.col("word").list.get(-1), before=pl.col("word").list.get(-2)
    )
    spoken = said.select("conversation", "role", "word").explode("word").drop_nulls("word")
    code = {word: zlib.crc32(word.encode()) for word in spoken["word"].unique()}
    names = {number: word for word, number in code.items()}

    def coded(column: str) -> pl.Expr:
        return pl.col(column).replace_strict(code, return_dtype=pl.UInt32) if code else pl.col(column).cast(pl.UInt32)

    return spoken.with_columns(coded("word")), ends.with_columns(coded("last"), coded("before")), names
