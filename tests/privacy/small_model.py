"""A tiny token-classification model, its weights set by hand."""

from pathlib import Path

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "anna", "berg", "met", "in", "ulm", "."]


def save_model(folder: Path) -> Path:
    """BERT of one layer, 16 wide, saved as safetensors: anna is a B-PER, berg an I-PER, ulm a B-LOC."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

    torch.manual_seed(0)
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
