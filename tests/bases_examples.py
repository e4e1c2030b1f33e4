"""Tiny bases that this project did not train, with tokenizers of their own: GPT-2, BERT and RoBERTa type."""

from pathlib import Path

import torch
from models_examples import TEXTS
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    RobertaConfig,
    RobertaForMaskedLM,
)


def byte_level(special: list[str]) -> Tokenizer:
    """Train a byte-level BPE with these special tokens."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(TEXTS, trainer)
    return bpe


def gpt2(directory: Path, dropout: float = 0.1) -> Path:
    """Save a GPT-2 whose tokenizer has an end of text and neither padding nor chat markers."""
    fast = PreTrainedTokenizerFast(tokenizer_object=byte_level(["<end>"]), eos_token="<end>")
    fast.save_pretrained(directory)
    shape = {"n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}
    drops = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), dropout)
    torch.manual_seed(3)
    GPT2LMHeadModel(GPT2Config(vocab_size=len(fast), bos_token_id=0, eos_token_id=0, **shape, **drops)).save_pretrained(
        directory
    )
    return directory


def qwen(directory: Path) -> Path:
    """Save a Qwen2 with untied embeddings of more rows than its tokenizer has tokens."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=byte_level(["<end>", "<pad>"]), eos_token="<end>", pad_token="<pad>"
    )
    fast.save_pretrained(directory)
    torch.manual_seed(4)
    Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(fast) + 9,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            tie_word_embeddings=False,
            pad_token_id=1,
            eos_token_id=0,
        )
    ).save_pretrained(directory)
    return directory


SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def bert(directory: Path) -> Path:
    """Save a BERT with a lower-casing WordPiece tokenizer; it has no end of text."""
    pieces = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    pieces.normalizer = normalizers.BertNormalizer(lowercase=True)
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces.train_from_iterator(
        TEXTS, trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    )
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    pieces.enable_truncation(5)  # as sentence encoders of the hub store it
    fast = PreTrainedTokenizerFast(
        tokenizer_object=pieces,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )
    fast.save_pretrained(directory)
    torch.manual_seed(5)
    config = BertConfig(vocab_size=len(fast), max_position_embeddings=64, pad_token_id=0, **SHAPE)
    BertForMaskedLM(config).save_pretrained(directory)
    return directory


def roberta(directory: Path) -> Path:
    """Save a RoBERTa, whose first two positions are never used."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces = byte_level(special)
    pieces.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=pieces,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=64,
    )
    fast.save_pretrained(directory)
    torch.manual_seed(6)
    config = RobertaConfig(
        vocab_size=len(fast), max_position_embeddings=66, pad_token_id=1, bos_token_id=0, eos_token_id=2, **SHAPE
    )
    RobertaForMaskedLM(config).save_pretrained(directory)
    return directory
