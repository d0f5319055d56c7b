"""A token-classification model adds what rules do not find; here a tiny one, its weights set by hand."""

from pathlib import Path

import polars as pl
import pytest

from tests.privacy.small_model import save_model
from theta_ml.privacy.batch import redact_conversations
from theta_ml.privacy.recogniser import TokenClassifier
from theta_ml.privacy.redaction import Found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


def test_spans_of_the_models_labels_become_ours(model: Path) -> None:
    recogniser = TokenClassifier(str(model))
    texts = ["Met Anna Berg in Ulm.", "", "anna anna berg"]
    assert recogniser.find(texts) == [
        [Found(4, 13, "NAME", "anna berg")],
        [],
        [Found(0, 4, "NAME", "anna"), Found(5, 14, "NAME", "anna berg")],
    ]


def test_long_texts_are_read_in_windows(model: Path) -> None:
    text = "met in . " * 100 + "Anna Berg " + "met in . " * 100
    assert TokenClassifier(str(model), batch_size=2).find([text]) == [[Found(900, 909, "NAME", "anna berg")]]


def test_what_it_finds_is_redacted_and_known_from_then_on(model: Path) -> None:
    contents = pl.Series(["We met Anna Berg in Ulm.", "a@b.de is Berg"])
    redacted = redact_conversations(contents, pl.Series([0, 0]), TokenClassifier(str(model)))
    assert redacted.contents.to_list() == ["We met [NAME_1] in Ulm.", "[EMAIL_1] is [NAME_1]"]
    assert redact_conversations(contents, pl.Series([0, 0])).contents[0] == contents[0]


def test_a_model_without_our_labels_is_refused(model: Path) -> None:
    with pytest.raises(ValueError, match="B-LOC, B-PER, I-PER, O"):
        TokenClassifier(str(model), {"PHONE": "PHONE"})


def test_pickled_weights_are_refused(model: Path, tmp_path: Path) -> None:
    import torch

    for file in model.iterdir():
        if file.suffix == ".json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        TokenClassifier(str(tmp_path))
