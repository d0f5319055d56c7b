"""One month of a snapshot as two tables of features: a row a conversation, a row a message, no text in either."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theta_ml.landing.snapshot import read_months
from theta_ml.quality import text

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

TRUNCATION_LENGTH = 20
"""Shorter replies share their length by nature ("ok", "thanks"), longer ones where something cuts them."""


@dataclass(frozen=True)
class Batch:
    """What is known of a month's conversations."""

    month: str
    conversations: "pd.DataFrame"
    """conversation_id, month, source, language, topic, rating, user_id, occurred_at, hour, turns, replies, user_chars
    and reply_chars (means; missing where nobody of that role speaks), words, reply_share, has_reply,
    starts_with_user, duplicate, fingerprint."""
    messages: "pd.DataFrame"
    """conversation (row in `conversations`), role, rating, chars, words, one column for each of `text.PATTERNS`,
    blank, and, missing on other roles: of users repeated_user, of replies reply_chars, blank_reply, repeated_reply,
    same_length, echo, error_reply."""

    def __len__(self) -> int:
        return len(self.conversations)


def load_batch(path: Path, month: str) -> Batch:
    """Features of one month. Raises FileNotFoundError where the snapshot has no such month."""
    table = read_months(path, [month], quarantined=True).combine_chunks()
    messages, contents = _messages(table)
    return Batch(month, _conversations(table, messages, contents), messages)


def _messages(table: Any) -> tuple["pd.DataFrame", Any]:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    column = table["messages"]
    lists = column.chunk(0) if column.num_chunks else pa.array([], type=column.type)
    parents, flat = pc.list_parent_indices(lists), pc.list_flatten(lists)
    contents = pc.struct_field(flat, "content")
    frame = pd.DataFrame(
        {
            "conversation": parents.to_numpy(),
            "role": pc.struct_field(flat, "role").to_pandas().astype(object),
            "rating": pc.struct_field(flat, "rating").to_pandas().astype("float64"),
            "chars": text.lengths(contents),
            "words": text.word_counts(contents),
            **{name: text.matches(contents, pattern) for name, pattern in text.PATTERNS.items()},
            "blank": ~text.matches(contents, text.LETTER_OR_DIGIT),
        }
    )
    replies = (frame["role"] == "assistant").to_numpy()
    for name, values in _reply_features(frame, contents, replies).items():
        frame[name] = np.where(replies, values, np.nan).astype("float64")
    users = (frame["role"] == "user").to_numpy()
    frame["repeated_user"] = np.where(users, _is_commonest(text.hashes(text.masked(contents)), users), np.nan)
    return frame, contents


def _reply_features(frame: "pd.DataFrame", contents: Any, replies: "NDArray[np.bool_]") -> dict[str, Any]:
    import numpy as np

    same = text.hashes(text.normalised(contents))
    conversation, chars = frame["conversation"].to_numpy(), frame["chars"].to_numpy()
    echo = np.zeros(len(frame), bool)
    echo[1:] = (same[1:] == same[:-1]) & (conversation[1:] == conversation[:-1]) & ~replies[:-1]
    return {
        "reply_chars": chars,
        "blank_reply": frame["blank"],
        "repeated_reply": _is_commonest(text.hashes(text.masked(contents)), replies),
        "same_length": _is_commonest(chars, replies & (chars >= TRUNCATION_LENGTH)),
        "echo": echo,
        "error_reply": frame["error_message"],
    }


def _is_commonest(values: "NDArray[Any]", among: "NDArray[np.bool_]") -> "NDArray[np.bool_]":
    import numpy as np

    if not among.any():
        return np.zeros(len(values), bool)
    kinds, counts = np.unique(values[among], return_counts=True)
    return among & (values == kinds[counts.argmax()])


def _conversations(table: Any, messages: "pd.DataFrame", contents: Any) -> "pd.DataFrame":
    import pandas as pd

    names = ["conversation_id", "month", "source", "language", "topic", "rating", "user_id", "occurred_at"]
    frame = table.select(names).to_pandas()
    frame["rating"] = frame["rating"].astype("float64")
    frame["occurred_at"] = pd.to_datetime(frame["occurred_at"], utc=True)
    frame["hour"] = frame["occurred_at"].dt.hour
    spoken = messages.assign(
        replies=messages["role"] == "assistant", user_chars=messages["chars"].where(messages["role"] == "user")
    ).groupby("conversation")
    rows = frame.index
    frame["turns"] = spoken.size().reindex(rows, fill_value=0)
    frame["replies"] = spoken["replies"].sum().reindex(rows, fill_value=0)
    frame["words"] = spoken["words"].sum().reindex(rows, fill_value=0)
    frame["user_chars"] = spoken["user_chars"].mean().reindex(rows)
    frame["reply_chars"] = spoken["reply_chars"].mean().reindex(rows)
    frame["reply_share"] = spoken["replies"].mean().reindex(rows)
    frame["has_reply"] = frame["replies"] > 0
    speakers = messages[messages["role"] != "system"].groupby("conversation")["role"]
    frame["starts_with_user"] = speakers.first().reindex(rows) == "user"
    frame["fingerprint"] = _fingerprints(messages, contents, len(frame))
    frame["duplicate"] = frame.duplicated("fingerprint")
    return frame


def _fingerprints(messages: "pd.DataFrame", contents: Any, conversations: int) -> "NDArray[np.uint64]":
    """(conversations,): equal where the same texts were said in the same order: sum of hash · (2 · turn + 1)."""
    import numpy as np

    turn = messages.groupby("conversation").cumcount().to_numpy().astype("uint64")
    total = np.zeros(conversations, "uint64")
    np.add.at(total, messages["conversation"].to_numpy(), text.hashes(text.normalised(contents)) * (2 * turn + 1))
    return total


def indicators(batch: Batch) -> dict[str, float]:
    """Shares (0-1) that say whether a feed is sound; each is near 0 in a healthy month. Empty where the month is."""
    messages, conversations = batch.messages, batch.conversations
    if messages.empty:
        return {}
    damaged = messages["mojibake"] | messages["lost_characters"] | messages["control_characters"]
    replies = messages[messages["role"] == "assistant"]
    return {
        "damaged_text": float(damaged.mean()),
        "machine_output": float((messages["machine_output"] | messages["unbroken_run"]).mean()),
        "without_reply": float(1 - conversations["has_reply"].mean()),
        "duplicate_conversations": float(conversations["duplicate"].mean()),
        **{name: float(replies[column].mean()) if len(replies) else 0.0 for name, column in _REPLY_INDICATORS.items()},
    }


_REPLY_INDICATORS = {
    "blank_replies": "blank_reply",
    "same_reply": "repeated_reply",
    "same_length": "same_length",
    "echoes": "echo",
    "error_replies": "error_reply",
}
