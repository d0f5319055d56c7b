"""Characters: wrongly decoded text repaired, one form for each character, nothing invisible that does nothing."""

import polars as pl

from theta_ml.corpus.cleaning.rows import each, where

# What UTF-8 read as Windows-1252 or Latin-1 looks like: the first byte of a character, then one that only follows.
_MOJIBAKE = (
    r"[\x{C2}-\x{F4}][\x{80}-\x{BF}\x{2013}-\x{2022}\x{2026}\x{2030}\x{2039}\x{203A}\x{20AC}\x{2122}\x{152}\x{153}"
    r"\x{160}\x{161}\x{178}\x{17D}\x{17E}\x{192}\x{2C6}\x{2DC}]"
)
_LINE_ENDS = r"\r\n?|[\x0B\x0C\x{85}\x{2028}\x{2029}]"
# Colours and movements of terminals (ECMA-48), then of IRC clients (\x03 and two numbers).
_TERMINAL = r"\x1B\[[0-?]*[ -/]*[@-~]|\x1B\][^\x07\x1B\n]{0,300}(?:\x07|\x1B\\)|\x03(?:[0-9]{1,2}(?:,[0-9]{1,2})?)?"
_CONTROLS = r"[\x00-\x08\x0B-\x1F\x7F-\x{9F}]"
# Replacement characters and code points that are no characters; the encoder's markers must never come from a text.
_NO_CHARACTERS = r"[\x{FFFD}\x{FFFE}\x{FFFF}\x{FDD0}-\x{FDEF}\x{FFF9}-\x{FFFB}]"
_JOINING = (
    r"\p{Arabic}\p{Syriac}\p{Mongolian}\p{Devanagari}\p{Bengali}\p{Gurmukhi}\p{Gujarati}\p{Oriya}\p{Tamil}\p{Telugu}"
    r"\p{Kannada}\p{Malayalam}\p{Sinhala}\p{Khmer}\p{Myanmar}\p{Tibetan}"
)
_EMOJI = r"\p{Extended_Pictographic}\x{FE0F}\x{1F3FB}-\x{1F3FF}"
# The part in parentheses is kept, the rest of the match goes: Rust's expressions cannot look behind.
_INVISIBLE = (
    rf"([{_JOINING}][\x{{200C}}\x{{200D}}]|[{_EMOJI}]\x{{200D}}|[\p{{Khmer}}\p{{Thai}}\p{{Lao}}\p{{Myanmar}}]\x{{200B}}"
    r"|\x{1F3F4}[\x{E0020}-\x{E007F}]+)"
    r"|[\x{200B}-\x{200D}\x{2060}-\x{2064}\x{FEFF}\x{AD}\x{180E}\x{E0000}-\x{E007F}\x{202D}\x{202E}]"
)
_DIRECTIONS = r"[\x{200E}\x{200F}\x{61C}\x{202A}-\x{202C}\x{2066}-\x{2069}]"
_RIGHT_TO_LEFT = r"[\p{Hebrew}\p{Arabic}\p{Syriac}\p{Thaana}\p{Nko}]"


def repair(texts: pl.Series) -> pl.Series:
    """Text that was decoded as another encoding than its own, as it was meant."""
    return where(texts.str.contains(_MOJIBAKE), each(_as_meant), texts)


def _as_meant(text: str) -> str:
    import ftfy

    return ftfy.fix_encoding(text)


def visible(texts: pl.Series) -> pl.Series:
    """Without control characters but line ends and tabs (no C0, no C1), and without invisible ones that do nothing.

    Joiners stay where a script or an emoji needs them, marks of direction in texts that run from right to left.
    """
    lines = texts.str.replace_all(_LINE_ENDS, "\n")
    return _without_invisible(lines.str.replace_all(_TERMINAL, "").str.replace_all(_CONTROLS, ""))


def _without_invisible(texts: pl.Series) -> pl.Series:
    return where(texts.str.len_bytes() != texts.str.len_chars(), _useful, texts)


def _useful(texts: pl.Series) -> pl.Series:
    texts = texts.str.replace_all(_NO_CHARACTERS, "").str.replace_all(_INVISIBLE, "$1")
    directed = texts.str.contains(_DIRECTIONS) & ~texts.str.contains(_RIGHT_TO_LEFT)
    return where(directed, lambda some: some.str.replace_all(_DIRECTIONS, ""), texts)


def normal_form(texts: pl.Series) -> pl.Series:
    """Unicode's normal form C: composed, without changing what a text says."""
    return texts.str.normalize("NFC")
