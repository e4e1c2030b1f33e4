"""Tiny pairs of answers and tiny models for the tests of what learns from preferences."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from models_examples import TEXTS
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from models.trainer import TrainerConfig

EXACT = TrainerConfig(steps=1, precision="fp32", compile="off")


def preference_rows() -> list[dict[str, str]]:
    """Return questions about the people of TEXTS; the answer that names the place is preferred."""
    return [
        {
            "id": str(i),
            "prompt": f"Where does {text.split()[0]} the {text.split()[3]} live?",
            "chosen": f"{'near ' * (i % 3)}the {text.split('. ')[0].split()[-1]}.",
            "rejected": f"{text.split()[0]} {'is a ' * (i % 2)}{text.split()[3]}.",
        }
        for i, text in enumerate(TEXTS)
    ]


def config(**changes: Any) -> LlamaConfig:
    """Return a tiny model's config; grouped key-value heads take the library's own forward, equal ones the lean."""
    values = {"num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 64, **changes}
    return LlamaConfig(vocab_size=320, hidden_size=32, intermediate_size=48, num_hidden_layers=2, **values)


def llama(seed: int, **changes: Any) -> LlamaForCausalLM:
    """Return a tiny causal model of random weights, larger than usual so that its distributions differ."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(config(initializer_range=0.2, **changes))


def judge(seed: int, **changes: Any) -> LlamaForSequenceClassification:
    """Return a tiny reward model of random weights."""
    torch.manual_seed(seed)
    return LlamaForSequenceClassification(config(initializer_range=0.2, num_labels=1, pad_token_id=1, **changes))


def token_log_probabilities(model: LlamaForCausalLM, ids: np.ndarray, start: int) -> torch.Tensor:
    """log P of each token from `start` on, by the model's whole forward and one log-softmax a position."""
    logits = F.log_softmax(model(torch.from_numpy(ids)[None]).logits[0], -1)
    return torch.stack([logits[place - 1, ids[place]] for place in range(start, len(ids))])
