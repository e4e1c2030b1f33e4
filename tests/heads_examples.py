"""Tiny bases of every family, a tokenizer with [CLS] and [SEP], and rows of entities and answers."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from models_examples import TEXTS
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CLASSES = {"bert": "Bert", "roberta": "Roberta", "modernbert": "ModernBert", "llama": "Llama", "gpt2": "GPT2"}
LANGUAGE = {"bert": "PreTraining", "roberta": "MaskedLM", "modernbert": "MaskedLM", "llama": "CausalLM"}


def model(family: str, head: str = "", **changes: Any) -> Any:
    """Return a random tiny model without dropout; without `head`, the language model that a base is."""
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    common = {"vocab_size": 320, "max_position_embeddings": 66, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 0}
    if family in ("bert", "roberta"):
        shape |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    if family == "modernbert":
        common |= {"cls_token_id": 2, "sep_token_id": 3}
    if family == "gpt2":
        shape = {"n_embd": 32, "n_layer": 2, "n_head": 2, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    if family == "llama" and head == "TokenClassification":
        shape["classifier_dropout"] = 0.0
    name = CLASSES[family]
    config = getattr(transformers, f"{name}Config")(**{**shape, **common, **changes})
    suffix = "LMHeadModel" if family == "gpt2" and not head else f"For{head or LANGUAGE[family]}"
    torch.manual_seed(0)
    return getattr(transformers, name + suffix)(config)


def wordpiece(directory: Path) -> PreTrainedTokenizerFast:
    """Train a lower-casing WordPiece on TEXTS, as BERT's, and save it."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    piece = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    piece.normalizer = normalizers.BertNormalizer(lowercase=True)
    piece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    piece.decoder = decoders.WordPiece()
    piece.train_from_iterator(
        TEXTS, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    )
    pair = "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"
    piece.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair=pair, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    fast = PreTrainedTokenizerFast(tokenizer_object=piece, **names)
    fast.save_pretrained(directory)
    return fast


def assert_same(network: Any, ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Hold loss and gradients of both sides together within 1e-5."""
    gradients = []
    for loss in (ours, theirs):
        network.zero_grad()
        loss.backward()
        gradients.append({name: w.grad.clone() for name, w in network.named_parameters() if w.grad is not None})
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
    assert gradients[0].keys() == gradients[1].keys()
    assert max((gradients[0][name] - own).abs().max().item() for name, own in gradients[1].items()) < 1e-5
