"""A token-classification model adds what rules do not find; here a tiny one, its weights set by hand."""

from pathlib import Path

import polars as pl
import pytest

from theta_ml.privacy.batch import redact_conversations
from theta_ml.privacy.recogniser import TokenClassifier
from theta_ml.privacy.redaction import Found

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "anna", "berg", "met", "in", "ulm", "."]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BERT of one layer, 16 wide, saved as safetensors: anna is a B-PER, berg an I-PER, ulm a B-LOC."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=32,
    ).save_pretrained(folder)  # fmt: skip
    labels = ["O", "B-PER", "I-PER", "B-LOC"]
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16,
        max_position_embeddings=32, id2label=dict(enumerate(labels)),
        label2id={name: number for number, name in enumerate(labels)},
    )  # fmt: skip
    classifier = BertForTokenClassification(config)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.zero_()
        for module in classifier.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.weight.fill_(1)
        embeddings = classifier.bert.embeddings.word_embeddings.weight
        for word, label in (("anna", 1), ("berg", 2), ("ulm", 3)):
            embeddings[WORDS.index(word), label] = 8
        for word in ("[UNK]", "[CLS]", "[SEP]", "met", "in", "."):
            embeddings[WORDS.index(word), 0] = 8
        classifier.classifier.weight[:, :4] = torch.eye(4)
    classifier.save_pretrained(folder, safe_serialization=True)
    return folder


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
