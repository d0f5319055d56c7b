"""A base model of others, small, as files in a folder: GPT-2 with random weights, and tokenizers of several kinds."""

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GPT2Config, GPT2LMHeadModel

TEXTS = ["Hello, where is my order?", "Your tent left Lisbon today.", "Yes. I have told them: aaaa aaa aa a", "1 2 33"]


def gpt2_tokenizer(vocabulary: int = 400) -> Tokenizer:
    """GPT-2's own form: its split into words, a leading control token, and offsets trimmed."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 4, trainer)
    return tokenizer


def unigram_tokenizer() -> Tokenizer:
    """A tokenizer of another kind: spaces as `▁`, a normalizer, a start token of its own, and no bytes."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=["<unk>", "<s>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 4, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.add_tokens([AddedToken("order?", normalized=False)])
    return tokenizer


def write_gpt2(folder: Path, context: int = 128, tokenizer: Tokenizer | None = None) -> Path:
    """config.json, model.safetensors and tokenizer.json in `folder`."""
    tokenizer = tokenizer or gpt2_tokenizer()
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=tokenizer.get_vocab_size(), n_positions=context, n_embd=32, n_layer=2, n_head=2, attn_pdrop=0.1
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
