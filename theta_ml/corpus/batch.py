"""Some thousands of conversations as two tables: what every step of the corpus works on."""

from dataclasses import dataclass

import polars as pl

CONVERSATIONS = pl.Schema(
    {
        "conversation_id": pl.String,
        "source": pl.String,
        "language": pl.String,
        "user_id": pl.String,
        "rating": pl.Float64,
        "split": pl.String,
    }
)
MESSAGES = pl.Schema({"conversation": pl.UInt32, "role": pl.String, "content": pl.String, "rating": pl.Float64})


@dataclass(frozen=True)
class Batch:
    """Conversations and their messages."""

    conversations: pl.DataFrame
    """CONVERSATIONS; one row a conversation."""
    messages: pl.DataFrame
    """MESSAGES; `conversation` is a row number of `conversations`, ascending; the messages of one in their order."""

    def keep(self, kept: pl.Series) -> "Batch":
        """The conversations where `kept` (boolean, one a conversation) is true, numbered anew."""
        if kept.all():
            return self
        numbers = (kept.cast(pl.UInt32).cum_sum() - 1).cast(pl.UInt32)
        of = self.messages["conversation"]
        messages = self.messages.with_columns(conversation=numbers.gather(of)).filter(kept.gather(of))
        return Batch(self.conversations.filter(kept), messages)

    @property
    def text_bytes(self) -> int:
        return int(self.messages["content"].str.len_bytes().sum())
