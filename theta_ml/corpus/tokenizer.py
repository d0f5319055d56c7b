"""Byte-level BPE and the chat format.

A conversation is `<|begin|>` and its turns, each `<|role|>` content `<|end|>`. Content is always encoded as plain text:
someone who types `<|assistant|>` gets those characters, never the control token.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypedDict

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

BEGIN, END, PAD = "<|begin|>", "<|end|>", "<|pad|>"
ROLES = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
SPECIAL = [PAD, BEGIN, END, *ROLES.values()]

WORDS = (
    r"(?i:'[sdmt]|'ll|'ve|'re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
"""GPT-4's split into words (tiktoken, cl100k_base)."""

CHAT_TEMPLATE = (
    "{{ '<|begin|>' }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|end|>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""The same format for engines that render text. They must escape control tokens themselves; Theta encodes by turns."""

FILE = "tokenizer.json"


class Message(TypedDict):
    role: str
    content: str


@dataclass(frozen=True)
class Turn:
    """One message as tokens."""

    role: str
    tokens: list[int]
    """Role token, content, end token."""

    @property
    def learned(self) -> bool:
        """Loss is taken on what the assistant says."""
        return self.role == "assistant"


class ChatTokenizer:
    """A trained tokenizer and the ids of its control tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.encode_special_tokens = True  # control tokens in content stay plain text
        self.tokenizer = tokenizer
        self.begin, self.end, self.pad = (_id(tokenizer, token) for token in (BEGIN, END, PAD))
        self.roles = {role: _id(tokenizer, token) for role, token in ROLES.items()}

    @classmethod
    def load(cls, folder: Path) -> "ChatTokenizer":
        """Raises FileNotFoundError where `folder` holds no tokenizer.json."""
        path = folder / FILE
        if not path.exists():
            raise FileNotFoundError(f"no {path}; `theta stage prepare` makes it")
        return cls(Tokenizer.from_file(str(path)))

    @classmethod
    def from_base(cls, folder: Path) -> "ChatTokenizer":
        """That of a model of others, whatever its kind, with the control tokens that it lacks.

        What it adds around a text by itself, padding and cutting go: a conversation has its own form.
        Raises FileNotFoundError, and ValueError where the file is none that the `tokenizers` library reads.
        """
        path = folder / FILE
        if not path.exists():
            raise FileNotFoundError(f"no {path}: choose a base model with a {FILE}")
        try:
            document = json.loads(path.read_text())
            bare = document | {"post_processor": None, "truncation": None, "padding": None}
            tokenizer = Tokenizer.from_str(json.dumps(bare, ensure_ascii=False))
        except Exception as error:  # noqa: BLE001  the library raises nothing narrower
            raise ValueError(f"{path} is no tokenizer that the `tokenizers` library reads ({error})") from None
        tokenizer.add_special_tokens(SPECIAL)
        return cls(tokenizer)

    def trained_here(self) -> bool:
        """Whether it is of the form that `train_tokenizer` gives, which tiktoken reads too: this split into words,
        bytes as letters, and every pair that makes a token among the merges."""
        document = json.loads(self.tokenizer.to_str())
        ours = json.loads(_untrained().to_str())
        parts = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
        if any(document[part] != ours[part] for part in parts):
            return False
        plain = {name: value for name, value in document["model"].items() if name not in ("vocab", "merges")}
        if plain != {name: ours["model"][name] for name in plain} or set(SPECIAL) - set(document["model"]["vocab"]):
            return False
        return bool(
            document["model"]["merges"] == json.loads(_complete_merges(json.dumps(document)))["model"]["merges"]
        )

    def added(self, base: Path) -> list[int]:
        """Ids of the control tokens that the tokenizer in `base` has not."""
        own = Tokenizer.from_file(str(base / FILE)).get_vocab()
        return sorted(_id(self.tokenizer, token) for token in SPECIAL if token not in own)

    @property
    def vocabulary(self) -> int:
        """Tokens, or the largest id and one where ids are left out: as many rows as embeddings need."""
        return max(self.tokenizer.get_vocab().values()) + 1

    def key(self) -> str:
        """Names the tokenizer: two with the same key encode alike."""
        return self._key

    @cached_property
    def _key(self) -> str:
        return hashlib.sha256(self.tokenizer.to_str().encode()).hexdigest()[:32]

    def turns(self, messages: Sequence[Message]) -> list[Turn]:
        """One turn a message, in order."""
        contents = self.tokenizer.encode_batch_fast([m["content"] for m in messages], add_special_tokens=False)
        return [
            Turn(m["role"], [self.roles[m["role"]], *content.ids, self.end])
            for m, content in zip(messages, contents, strict=True)
        ]

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Ids that end where the assistant's next answer begins."""
        turns = self.turns(messages)
        return [self.begin, *(token for turn in turns for token in turn.tokens), self.roles["assistant"]]

    def save(self, folder: Path, max_length: int) -> None:
        """What `AutoTokenizer.from_pretrained` reads, written without importing transformers (a second saved)."""
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(str(folder / FILE))
        description = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BEGIN,
            "eos_token": END,
            "pad_token": PAD,
            "additional_special_tokens": list(ROLES.values()),
            "model_max_length": max_length,
            "padding_side": "left",
            "clean_up_tokenization_spaces": False,
            "split_special_tokens": False,
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(description, indent=2, sort_keys=True) + "\n")
        (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> ChatTokenizer:
    """Learns at most `vocabulary` tokens; the same texts in the same order give the same tokenizer."""
    tokenizer = _untrained()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return ChatTokenizer(Tokenizer.from_str(_complete_merges(tokenizer.to_str())))


def _untrained() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _complete_merges(document: str) -> str:
    """A `tokenizer.json` whose merges are all ways to build each token from two others, in the order of the tokens.

    tiktoken merges whatever two tokens make a third; training writes down only the pair it happened to see. With all
    pairs written down both do the same.
    """
    tokenizer = json.loads(document)
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    merges = []
    for token in sorted(set(vocabulary) - set(SPECIAL), key=vocabulary.__getitem__):
        pairs = ([token[:at], token[at:]] for at in range(1, len(token)))
        known = [pair for pair in pairs if all(part in vocabulary for part in pair)]
        merges += sorted(known, key=lambda pair: [vocabulary[part] for part in pair])
    tokenizer["model"]["merges"] = merges
    return json.dumps(tokenizer, ensure_ascii=False)


def _id(tokenizer: Tokenizer, token: str) -> int:
    number = tokenizer.token_to_id(token)
    if number is None:
        raise ValueError(f"the tokenizer has no {token}: it was not trained by theta_ml.corpus")
    return int(number)
