"""What a corpus' units are packed with: the tokenizer, the length of a row, benchmark items."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from theta_ml.corpus.cleaning import Rules, clean
from theta_ml.corpus.contamination import Contamination
from theta_ml.corpus.encoder import Encoder
from theta_ml.corpus.mixture import Source
from theta_ml.corpus.shapes import corpus_shape
from theta_ml.corpus.spec import PrepareSpec
from theta_ml.corpus.tokenizer import ChatTokenizer, train_tokenizer
from theta_ml.corpus.unit import Terms
from theta_ml.pretrained import context_of, find_model
from theta_ml.stage import StageFailed, Work

TOKENIZER = "tokenizer"
"""Stage that makes the tokenizer alone, and folder of it in that stage's artifact and in a corpus."""
TOKENIZER_VERSION = 1
TOKENIZER_BYTES = 64 << 20
"""A tokenizer learns from so much text at most: more changes little, and its memory grows with it."""


def terms_of(spec: PrepareSpec, from_where: Sequence[Source], work: Work) -> Terms:
    items = Contamination.load(Path(spec.benchmarks)) if spec.benchmarks else None
    return Terms(Encoder(tokenizer_of(spec, from_where, work)), row_length(spec, work), Rules(), items)


def tokenizer_of(spec: PrepareSpec, from_where: Sequence[Source], work: Work) -> ChatTokenizer:
    """That which was made beforehand, where there is one; the same is made otherwise."""
    for part in work.parts_of(TOKENIZER, TOKENIZER_VERSION):
        return ChatTokenizer.load(part.path / TOKENIZER)
    return _made(spec, from_where, work)


def _made(spec: PrepareSpec, from_where: Sequence[Source], work: Work) -> ChatTokenizer:
    """The champion's, a base model's, or a new one: descendants keep their tokenizer, their embeddings hang on it."""
    if spec.base:
        tokenizer = _of_base(spec.base, work)
        work.events.log(f"taking the tokenizer of {spec.base}: {tokenizer.vocabulary} tokens with the control tokens")
        return tokenizer
    if spec.champion and spec.tokenizer == "champion":
        work.events.log(f"keeping the tokenizer of champion v{spec.champion.version}")
        return ChatTokenizer.load(work.store.open(spec.champion.uri).path / "model")
    tokenizer = train_tokenizer(_texts(from_where), corpus_shape(spec.preset).vocabulary)
    work.events.log(f"trained a tokenizer of {tokenizer.vocabulary} tokens")
    return tokenizer


def _of_base(base: str, work: Work) -> ChatTokenizer:
    try:
        return ChatTokenizer.from_base(find_model(base, work.settings, weights=False))
    except ValueError as error:
        raise StageFailed(f"base model {base}: {error}; choose another `base` in the recipe") from None


def row_length(spec: PrepareSpec, work: Work) -> int:
    """As the preset has it, and no more than the model reads that training will start from."""
    length = corpus_shape(spec.preset).max_length
    if spec.base:
        return min(length, context_of(find_model(spec.base, work.settings, weights=False)))
    if spec.champion and spec.tokenizer == "champion":
        champion = work.store.open(spec.champion.uri)
        if champion.document["value"]["preset"] == spec.preset:  # of another preset, a new model is trained
            return min(length, context_of(champion.path / "model"))
    return length


def _texts(from_where: Sequence[Source]) -> Iterator[str]:
    """What a tokenizer learns from: cleaned messages of train conversations, what is shown most often first."""
    left = TOKENIZER_BYTES
    for source in sorted(from_where, key=lambda source: -source.weight):
        for reading in source.read() if source.weight else ():
            batch = clean(reading.batch, Rules(samples=0)).batch
            batch = batch.keep(batch.conversations["split"] == "train")
            left -= batch.text_bytes
            yield from batch.messages["content"]
            if left <= 0:
                return
