"""English words an assistant should not say, counted by a lexicon.

Short on purpose: words with a second, harmless meaning are left out, and so are names of groups, bodies and acts, which
long lists hold and by which they throw out talk of health and identity (Dodge et al. 2021, section 5). This file
contains offensive words; that is what it is for.
"""

import polars as pl

from theta_ml.corpus.cleaning.rows import put

MIN_PROFANE = 2
"""One profane word is an outburst, not a style."""

_SLURS = (
    r"n[i1]gg(?:er|a|uh)[sz]?", r"k[i1]kes?", r"wetbacks?", r"gooks?", r"ragheads?", r"towelheads?", r"fagg[oe]ts?",
    r"faggotry", r"shemales?", r"subhumans?", r"untermensch(?:en)?", r"white ?trash", r"kys", r"heil hitler",
    r"kill your ?sel(?:f|ves)", r"hang your ?sel(?:f|ves)", r"you (?:should|deserve to) die", r"gas the jews",
    r"white power",
)  # fmt: skip
_PROFANE = (
    r"(?:mother)?f+u+ck+\w*", r"f[*@#]+c?k(?:ing|er|ed)?", r"fck(?:ing|er|ed)?", r"stfu", r"gtfo", r"shut the \w+ up",
    r"(?:bull|horse|dip|ape)?sh[i1]t(?:s|ty|tier|head|heads|hole|ting)?", r"cunt(?:s|y)?", r"(?:ass|arse)holes?",
    r"dumb ?ass(?:es)?", r"jackass(?:es)?", r"bitch(?:es|y|ing)?", r"bastards?", r"whores?", r"sluts?", r"skanks?",
    r"twats?", r"wank(?:er|ers|ing)?", r"bollocks", r"dick ?heads?", r"douchebags?", r"cock ?sucker\w*", r"cumshots?",
    r"jizz", r"piss(?:ed)? off", r"morons?", r"imbeciles?", r"retard(?:s|ed)?",
)  # fmt: skip

# Every match of the expressions above holds one of these: one pass over all texts settles nearly all of them.
_PIECES = [
    "nigg", "n1gg", "kike", "k1ke", "wetback", "gook", "raghead", "towelhead", "faggot", "fagget", "shemale",
    "subhuman", "untermensch", "whitetrash", "white trash", "kys", "heil hitler", "kill your", "hang your",
    "should die", "deserve to die", "gas the jews", "white power", "uck", "f*", "f@", "f#", "fck", "stfu", "gtfo",
    "shut the", "shit", "sh1t", "cunt", "asshole", "arsehole", "dumbass", "dumb ass", "jackass", "bitch", "bastard",
    "whore", "slut", "skank", "twat", "wank", "bollocks", "dickhead", "dick head", "douchebag", "cocksucker",
    "cock sucker", "cumshot", "jizz", "piss", "moron", "imbecile", "retard",
]  # fmt: skip


def count(texts: pl.Series) -> pl.DataFrame:
    """slurs, profane: how often each text holds one. (texts, 2)"""
    seen = texts.str.contains_any(_PIECES, ascii_case_insensitive=True)
    found = texts.filter(seen).to_frame("text").select(slurs=_matches(_SLURS), profane=_matches(_PROFANE))
    none = pl.zeros(len(texts), pl.UInt32, eager=True)
    at = seen.arg_true()
    return pl.DataFrame({kind: put(none, at, found[kind]) for kind in ("slurs", "profane")})


def _matches(words: tuple[str, ...]) -> pl.Expr:
    return pl.col("text").str.count_matches(rf"(?i)\b(?:{'|'.join(words)})(?:\b|$)")
