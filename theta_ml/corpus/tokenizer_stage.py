"""Stage `tokenizer`: a corpus' tokenizer, made once before its shards are encoded on several machines."""

from dataclasses import dataclass

from theta_ml.corpus.mixture import sources
from theta_ml.corpus.prepare import STAGE as PREPARE
from theta_ml.corpus.prepare import stop_where_data_is_unfit
from theta_ml.corpus.spec import PrepareSpec, resolve
from theta_ml.corpus.terms import TOKENIZER, TOKENIZER_VERSION, row_length, tokenizer_of
from theta_ml.corpus.tokenizer import ChatTokenizer
from theta_ml.stage import Inputs, Stage, Work, made_before


@dataclass(frozen=True)
class MadeTokenizer:
    """A tokenizer, in the folder `tokenizer`."""

    month: str
    tokenizer_key: str
    vocabulary: int


def make_tokenizer(spec: PrepareSpec, inputs: Inputs, work: Work) -> MadeTokenizer:
    """The one that `prepare` would make of the same spec, or has made."""
    stop_where_data_is_unfit(inputs)
    corpus = made_before(PREPARE, spec, inputs, work)
    if corpus:
        tokenizer = ChatTokenizer.load(corpus.path / TOKENIZER)
    else:
        tokenizer = tokenizer_of(spec, sources(spec, inputs, work.settings), work)
    tokenizer.save(work.path / TOKENIZER, row_length(spec, work))
    return MadeTokenizer(spec.month, tokenizer.key(), tokenizer.vocabulary)


STAGE = Stage(TOKENIZER, TOKENIZER_VERSION, PrepareSpec, make_tokenizer, resolve)
