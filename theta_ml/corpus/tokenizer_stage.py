"""Stage `tokenizer`: a corpus' tokenizer, made once before its shards are encoded on several machines.

It asks for the snapshot alone, and so takes no longer than the checks of the data that are made at the same time.
"""

from dataclasses import dataclass

from theta_ml.corpus.mixture import sources
from theta_ml.corpus.spec import PrepareSpec, resolve
from theta_ml.corpus.terms import TOKENIZER, TOKENIZER_VERSION, row_length, tokenizer_of
from theta_ml.stage import Inputs, Stage, Work


@dataclass(frozen=True)
class MadeTokenizer:
    """A tokenizer, in the folder `tokenizer`."""

    month: str
    tokenizer_key: str
    vocabulary: int


def make_tokenizer(spec: PrepareSpec, inputs: Inputs, work: Work) -> MadeTokenizer:
    """The one that `prepare` would make of the same spec."""
    tokenizer = tokenizer_of(spec, sources(spec, inputs, work.settings), work)
    tokenizer.save(work.path / TOKENIZER, row_length(spec, work))
    return MadeTokenizer(spec.month, tokenizer.key(), tokenizer.vocabulary)


STAGE = Stage(TOKENIZER, TOKENIZER_VERSION, PrepareSpec, make_tokenizer, resolve)
