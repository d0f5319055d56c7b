"""Stage `prepare`: the snapshot's train and validation conversations as packed token arrays.

Test conversations never get here, nor exact copies of them. A champion's descendants keep its tokenizer: their
embeddings would mean nothing with another.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from theta_ml.champion import Champion
from theta_ml.corpus.documents import Document, training_documents
from theta_ml.corpus.packing import PackedPiece, Rows, pack
from theta_ml.corpus.pieces import cut
from theta_ml.corpus.shapes import corpus_shape
from theta_ml.corpus.tokenizer import ChatTokenizer, train_tokenizer
from theta_ml.landing.snapshot import Snapshot
from theta_ml.stage import Inputs, Stage, StageFailed, StageSkipped, Work

SPLITS = ("train", "validation")


@dataclass(frozen=True)
class PrepareSpec:
    """What to make of the snapshot."""

    month: str
    """The run's month, the newest of the window."""
    preset: str = "tiny"
    """Sets the length of a row, and the vocabulary of a new tokenizer."""
    champion: Champion | None = None
    """Whose tokenizer is kept; without one a tokenizer is trained on the snapshot's train split."""
    newest_weight: int = 2
    """How often an epoch shows the newest month's conversations, where older months stand beside it."""
    seed: int = 1
    """Orders the rows."""

    def __post_init__(self) -> None:
        corpus_shape(self.preset)
        if self.newest_weight < 1:
            raise ValueError(f"newest_weight is {self.newest_weight}: choose 1 (as often as older months) or more")


@dataclass(frozen=True)
class PackedCorpus:
    """What training reads. Counts are by split, train and validation."""

    month: str
    vocabulary: int
    tokenizer_key: str
    max_length: int
    sequences: dict[str, int]
    """Rows of max_length tokens."""
    tokens: dict[str, int]
    """Without padding."""
    loss_tokens: dict[str, int]
    """Those that bear loss."""
    documents: dict[str, int]
    """Conversations, each counted once."""


@dataclass
class _Taken:
    """Pieces of a split, and what they came from."""

    pieces: list[PackedPiece] = field(default_factory=list)
    newest: list[PackedPiece] = field(default_factory=list)
    records: list[tuple[str, str, str, int]] = field(default_factory=list)
    """conversation_id, source, month, tokens."""


def prepare(spec: PrepareSpec, inputs: Inputs, work: Work) -> PackedCorpus:
    _stop_where_data_is_unfit(inputs)
    snapshot = inputs.noun("snapshot", Snapshot)
    documents = list(training_documents(inputs.path("snapshot"), snapshot.window))
    work.events.log(f"{len(documents)} conversations of {len(snapshot.window)} months, without copies and tests")
    max_length = corpus_shape(spec.preset).max_length
    tokenizer = _tokenizer(spec, documents, work)
    tokenizer.save(work.path / "tokenizer", max_length)
    taken = _take(spec, documents, tokenizer, max_length, work)
    rows = {split: _pack(spec, taken[split], split, max_length, tokenizer.pad, work.path) for split in SPLITS}
    _record(taken, work)
    return PackedCorpus(
        month=spec.month,
        vocabulary=tokenizer.vocabulary,
        tokenizer_key=tokenizer.key(),
        max_length=max_length,
        sequences={split: rows[split].count for split in SPLITS},
        tokens={split: int((rows[split].tokens != tokenizer.pad).sum()) for split in SPLITS},
        loss_tokens={split: int(rows[split].learned.sum()) for split in SPLITS},
        documents={split: len(taken[split].records) for split in SPLITS},
    )


def _stop_where_data_is_unfit(inputs: Inputs) -> None:
    """Reads the documents, not the nouns: quality is a room above this one."""
    validation = inputs.artifact("validate").document["value"]
    if not validation["passed"]:
        raise StageSkipped(f"not training: {validation['sentence']}")
    drift = inputs.artifact("drift").document["value"]
    if drift["outcome"] == "broken":
        raise StageSkipped(f"not training: {drift['sentence']}")


def _tokenizer(spec: PrepareSpec, documents: list[Document], work: Work) -> ChatTokenizer:
    if spec.champion:
        work.events.log(f"keeping the tokenizer of champion v{spec.champion.version}")
        return ChatTokenizer.load(work.store.open(spec.champion.uri).path / "model")
    vocabulary = corpus_shape(spec.preset).vocabulary
    texts = (m["content"] for document in documents if document.split == "train" for m in document.messages)
    tokenizer = train_tokenizer(texts, vocabulary)
    work.events.log(f"trained a tokenizer of {tokenizer.vocabulary} tokens")
    return tokenizer


def _take(
    spec: PrepareSpec, documents: list[Document], tokenizer: ChatTokenizer, max_length: int, work: Work
) -> dict[str, _Taken]:
    taken = {split: _Taken() for split in SPLITS}
    for number, document in enumerate(documents, 1):
        pieces = list(_pieces(document, tokenizer, max_length))
        if pieces:
            into = taken[document.split]
            (into.newest if document.month == spec.month else into.pieces).extend(pieces)
            tokens = sum(len(piece.tokens) for piece in pieces)
            into.records.append((document.conversation_id, document.source, document.month, tokens))
        if number % 1000 == 0 or number == len(documents):
            work.events.progress(number, len(documents), "conversations")
    return taken


def _pieces(document: Document, tokenizer: ChatTokenizer, max_length: int) -> Iterator[PackedPiece]:
    return map(PackedPiece.of, cut(tokenizer.turns(document.messages), tokenizer.begin, max_length))


def _pack(spec: PrepareSpec, taken: _Taken, split: str, max_length: int, pad: int, folder: Path) -> Rows:
    """Writes the split's arrays; in train, the newest month stands `newest_weight` times beside older months."""
    weight = spec.newest_weight if split == "train" and taken.pieces else 1
    pieces = taken.pieces + taken.newest * weight
    if not pieces:
        raise StageFailed(
            f"no {split} conversation in the window up to {spec.month} has anything to learn from: import more of them "
            f"(about 80 of 100 conversations are train, 10 validation and 10 test)"
        )
    rows = pack(pieces, max_length, pad, spec.seed)
    rows.save(folder, split)
    return rows


def _record(taken: dict[str, _Taken], work: Work) -> None:
    """What was taken, from where, into the table training_data; the rows of an earlier attempt are replaced."""
    from theta_ml.landing.database import connect, database_faults

    with database_faults(), connect(work.settings) as connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM training_data WHERE corpus_key = %s", [work.key])
        columns = "corpus_key, conversation_id, source, month, split, tokens"
        with cursor.copy(f"COPY training_data ({columns}) FROM STDIN") as copy:
            for split in SPLITS:
                for conversation_id, source, month, tokens in taken[split].records:
                    copy.write_row((work.key, conversation_id, source, month, split, tokens))


STAGE = Stage("prepare", 1, PrepareSpec, prepare)
