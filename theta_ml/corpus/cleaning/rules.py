"""What cleaning is told: one set of rules, part of the key of whatever was cleaned by it."""

from dataclasses import dataclass

VERSION = 2
"""Raised when the same rules would clean the same text differently: part of a packed unit's key."""


@dataclass(frozen=True)
class Rules:
    """Thresholds are far from what real chat shows: a rule that rejects good conversations is worse than none.

    The rules of quality judge the assistant's text alone: it is what the model learns to write, and users may write
    as they like. Their kinds follow Gopher (Rae et al. 2021, table A1) and C4 (Raffel et al. 2020, section 2.2); their
    thresholds are looser, because a chat is shorter than a web page and holds code, logs and paths.
    """

    languages: tuple[str, ...] = ()
    """Languages (ISO 639-1) to keep; empty keeps all. A conversation whose language is not known is kept."""
    min_language_confidence: float = 0.5
    """Below this the identified language counts as unknown."""
    min_language_letters: int = 20
    """Letters that it takes to identify a language; a conversation of fewer counts as unknown."""
    max_message_characters: int = 16_384
    """A longer message is cut at the last paragraph, line, sentence or word before this length."""
    min_conversation_characters: int = 4
    """A conversation with fewer characters in all its turns is rejected."""
    max_replacement_share: float = 0.03
    """Share of a conversation's characters that may be U+FFFD, what is left of a text decoded wrongly."""
    min_style_characters: int = 200
    """The rules of style below need this much text by the assistant; less says nothing about style."""
    max_symbol_share: float = 0.5
    """Share of visible characters that may be neither letter nor digit."""
    max_capital_share: float = 0.8
    """Share of ASCII letters that may be capitals."""
    max_word_length: float = 30.0
    """Mean length of a word, in bytes; encoded data is longer. Texts mostly beyond ASCII are not judged: many scripts
    do not separate words."""
    max_repeated_reply_share: float = 0.6
    """Share of the assistant's turns that may be the same as an earlier one, from five turns on."""
    max_repeated_line_share: float = 0.6
    """Share of a reply's bytes that may lie in lines seen earlier in it, from ten lines on."""
    max_repeated_phrase_share: float = 0.5
    """Share of a reply's runs of four words that may have occurred earlier in it, from fifty words on."""
    max_profanity_share: float = 0.04
    """Share of the assistant's words that may be profane, from two profane words on. One slur is one too many."""
    samples: int = 3
    """Samples shown of each step and each reason."""

    def __post_init__(self) -> None:
        for name in ("max_message_characters", "min_conversation_characters"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; choose 1 or more")
        for name, value in vars(self).items():
            if name.endswith(("_share", "_confidence")) and not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; choose a share from 0 to 1")
        for language in self.languages:
            if language != language.lower() or not 2 <= len(language) <= 3:
                raise ValueError(f"languages holds '{language}'; write ISO 639-1 codes in lower case, such as 'en'")
