"""The heavier way to names and addresses: a token-classification model, where one is at hand. Optional.

Rules reach the names that a cue tells; a model reaches those that stand alone, at a hundredth of the speed. It is named
by a folder or a hub id; Theta ships none.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from theta_ml.privacy.redaction import Found
from theta_ml.settings import SettingsError

KINDS: Mapping[str, str] = {
    "PER": "NAME", "PERSON": "NAME", "NAME": "NAME", "FIRSTNAME": "NAME", "LASTNAME": "NAME",
    "MIDDLENAME": "NAME",    "GIVENNAME": "NAME", "SURNAME": "NAME", "PRIVATE_PERSON": "NAME",
    "ADDRESS": "ADDRESS", "STREET_ADDRESS": "ADDRESS", "STREET": "ADDRESS", "PRIVATE_ADDRESS": "ADDRESS",
}  # fmt: skip
"""Labels of such models (CoNLL, OntoNotes, those for personal data), and our types. Towns are nobody's."""


@cache
def load_recogniser(model: str | None) -> "Recogniser | None":
    """None where none is named: rules do alone. Raises SettingsError where it cannot be used."""
    if not model:
        return None
    try:
        return TokenClassifier(model)
    except (OSError, ValueError) as error:
        raise SettingsError(f"THETA_RECOGNISER: {' '.join(str(error).split())}") from error


def identity_of(model: str | None) -> str:
    """Empty where no model is named. Raises SettingsError where it cannot be used."""
    recogniser = load_recogniser(model)
    return recogniser.identity if recogniser else ""


def _identity(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(each for each in folder.iterdir() if each.suffix in (".json", ".safetensors", ".txt")):
        with file.open("rb") as opened:
            digest.update(f"{file.name} {hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:32]


class Recogniser(Protocol):
    """Finds in many texts at once what rules cannot."""

    identity: str

    def find(self, texts: Sequence[str]) -> list[list[Found]]:
        """For each text its spans, in order of place, without overlaps."""


class TokenClassifier:
    """A Hugging Face token-classification model. Only safetensors are read, and no code from the model's repository."""

    def __init__(
        self, model: str, kinds: Mapping[str, str] = KINDS, *, batch_size: int = 32, max_length: int = 512
    ) -> None:
        """Raises OSError if `model` is neither a folder nor a hub id with safetensors, ValueError if it has no label of
        `kinds` or its tokenizer cannot tell where in the text a token stood."""
        from transformers import AutoModelForTokenClassification, AutoTokenizer

        self.identity = _identity(Path(model)) if Path(model).is_dir() else ""
        """Equal where the same would be found: a digest of the folder's files, or the hub's commit."""
        self._tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        self._model = AutoModelForTokenClassification.from_pretrained(
            model, use_safetensors=True, trust_remote_code=False
        ).eval()
        self.identity = self.identity or str(self._model.config._commit_hash)
        self._kinds = [
            _kind(self._model.config.id2label[label], kinds) for label in range(self._model.config.num_labels)
        ]
        self._batch_size = batch_size
        self._length = min(max_length, self._tokenizer.model_max_length)
        if not self._tokenizer.is_fast:
            raise ValueError(f"the tokenizer of {model} gives no offsets: choose a model with a tokenizer.json")
        if not any(kind for kind, _ in self._kinds):
            labels = ", ".join(sorted(self._model.config.label2id))
            raise ValueError(f"{model} labels {labels}; none of them is one of {', '.join(kinds)}")

    def find(self, texts: Sequence[str]) -> list[list[Found]]:
        found: list[list[Found]] = [[] for _ in texts]
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))  # alike in length, little padding
        for first in range(0, len(order), self._batch_size):
            rows = order[first : first + self._batch_size]
            for row, spans in zip(rows, self._read([texts[row] for row in rows]), strict=True):
                found[row] = spans
        return found

    def _read(self, texts: list[str]) -> Iterator[list[Found]]:
        """Long texts are read in windows that overlap; in the overlap a span of either stands."""
        encoded = self._tokenizer(
            texts, truncation=True, max_length=self._length, stride=self._length // 8, padding=True,
            return_overflowing_tokens=True, return_offsets_mapping=True, return_tensors="pt",
        )  # fmt: skip
        offsets = encoded.pop("offset_mapping").tolist()
        owners = encoded.pop("overflow_to_sample_mapping").tolist()
        labels = self._labels(encoded)
        windows: list[list[Found]] = [[] for _ in texts]
        for owner, places, label in zip(owners, offsets, labels, strict=True):
            windows[owner] += self._spans(texts[owner], places, label)
        return (_joined(text, spans) for text, spans in zip(texts, windows, strict=True))

    def _labels(self, encoded: Any) -> list[list[int]]:
        """(windows, tokens): the likeliest label of each token; a batch of windows at a time."""
        import torch

        inputs: dict[str, torch.Tensor] = dict(encoded)
        count = len(inputs["input_ids"])
        with torch.inference_mode():
            parts = [
                self._model(
                    **{name: values[at : at + self._batch_size] for name, values in inputs.items()}
                ).logits.argmax(-1)
                for at in range(0, count, self._batch_size)
            ]
        return [row for part in parts for row in part.tolist()]

    def _spans(self, text: str, places: list[tuple[int, int]], labels: list[int]) -> Iterator[Found]:
        """Neighbours of one type are one span, unless a label begins a new one."""
        start, end, current = 0, 0, ""
        for (first, last), label in zip(places, labels, strict=True):
            if first == last:
                continue  # a special token, or padding
            kind, begins = self._kinds[label]
            if kind == current and (not begins or first == end):
                end = last
                continue
            if current:
                yield _found(text, start, end, current)
            start, end, current = first, last, kind
        if current:
            yield _found(text, start, end, current)


def _kind(label: str, kinds: Mapping[str, str]) -> tuple[str, bool]:
    """Our type ("" for none), and whether the label begins a new span; `B-PER`, `I_PER` and plain `PER` are in use."""
    prefix, name = re.fullmatch(r"(?:([BIESLU])[-_])?(.*)", label, re.DOTALL).groups()  # type: ignore[union-attr]
    return kinds.get(name.upper(), ""), prefix in ("B", "S", "U")


def _found(text: str, start: int, end: int, kind: str) -> Found:
    """Some tokenizers count the space before a word to it."""
    shown = text[start:end]
    start += len(shown) - len(shown.lstrip())
    return Found(start, end, kind, text[start:end].casefold())


def _joined(text: str, spans: list[Found]) -> list[Found]:
    """Spans that overlap, or of which one window saw only a part, become one."""
    joined: list[Found] = []
    for span in sorted(span for span in spans if span.start < span.end):
        if joined and span.start < joined[-1].end:
            last = joined.pop()
            span = _found(text, last.start, max(last.end, span.end), last.kind)
        joined.append(span)
    return joined
