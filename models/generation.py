"""Greedy generation in batches, with the library's own loop and key-value cache."""

from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from models.attention import set_attention
from models.chat import END
from models.instruction import decode
from models.rows import plain_batches


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[str],
    max_new_tokens: int,
    batch_size: int = 64,
) -> list[str]:
    """Return the greedy continuation of each prompt, up to `<|end|>`, `<|endoftext|>` or `max_new_tokens`.

    Prompts are whole texts with their markers (`models.chat.render`). A prompt that leaves no room for
    `max_new_tokens` in the model's context keeps its end. Raises ValueError for an empty prompt, or when
    `max_new_tokens` fills the context alone.
    """
    room = int(model.config.max_position_embeddings) - max_new_tokens
    if room < 1:
        raise ValueError(
            f"max_new_tokens is {max_new_tokens}, expected less than the context of {room + max_new_tokens}"
        )
    # Prompts carry their markers as text; these must become the markers' ids.
    ids = [e.ids[-room:] for e in tokenizer.backend_tokenizer.encode_batch_fast(prompts, add_special_tokens=False)]
    for number, row in enumerate(ids):
        if not row:
            raise ValueError(f"prompt {number} is empty, expected at least one token")
    set_attention(model, "sdpa")
    was_training = model.training
    model.eval()
    stops = [tokenizer.convert_tokens_to_ids(END), tokenizer.eos_token_id]
    answers = [""] * len(prompts)
    for numbers in plain_batches(np.array([len(row) for row in ids]), batch_size):
        chosen: list[int] = numbers.tolist()
        width = max(len(ids[i]) for i in chosen)
        batch = torch.full((len(chosen), width), tokenizer.pad_token_id)
        mask = torch.zeros_like(batch)
        for line, i in enumerate(chosen):
            batch[line, width - len(ids[i]) :] = torch.tensor(ids[i])
            mask[line, width - len(ids[i]) :] = 1
        with torch.inference_mode():
            library: Any = model
            output = library.generate(
                input_ids=batch.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                eos_token_id=stops,
                pad_token_id=tokenizer.pad_token_id,
            )
        for line, i in enumerate(chosen):
            answers[i] = decode(output[line, width:].tolist(), tokenizer)
    model.train(was_training)
    return answers
