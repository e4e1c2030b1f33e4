"""Answers that a model draws at random, as token ids: what it learns from by reinforcement."""

from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from models.generation import stop_ids
from models.job import RLHFOptions


def draw(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[np.ndarray],
    options: RLHFOptions,
    group: int,
    seed: int,
) -> list[np.ndarray]:
    """Return `group` answers to each prompt in turn, [prompts * group], as token ids with the token that ended them.

    Drawn at the options' temperature from the whole distribution. A pure function of weights, prompts and seed: the
    program's own random state is left alone. An answer that reaches `max_new_tokens` has no ending token.
    """
    width = max(len(row) for row in prompts)
    ids, mask = np.full((len(prompts), width), tokenizer.pad_token_id), np.zeros((len(prompts), width), dtype=np.int64)
    for line, row in enumerate(prompts):
        ids[line, width - len(row) :], mask[line, width - len(row) :] = row, 1
    stops, device = stop_ids(model, tokenizer), model.device
    was_training = model.training
    model.eval()
    library: Any = model
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(seed)
        output = library.generate(
            input_ids=torch.from_numpy(ids).to(device),
            attention_mask=torch.from_numpy(mask).to(device),
            num_return_sequences=group,
            max_new_tokens=options.max_new_tokens,
            do_sample=True,
            temperature=options.temperature,
            # A base's own defaults must not bend the distribution whose probabilities the loss takes.
            top_k=0,
            top_p=1.0,
            repetition_penalty=1.0,
            eos_token_id=stops,
            pad_token_id=tokenizer.pad_token_id,
        )
    model.train(was_training)
    rows = output[:, width:].cpu().numpy()
    ends = np.isin(rows, stops)
    lengths = np.where(ends.any(1), ends.argmax(1) + 1, rows.shape[1])
    return [row[:length] for row, length in zip(rows, lengths, strict=True)]


def close(answer: np.ndarray, end: int, stops: list[int]) -> tuple[np.ndarray, bool]:
    """Return the answer with `<|end|>` as its last token, as the reward model knows answers, and whether it had it."""
    if answer[-1] == end:
        return answer, True
    return np.append(answer[:-1] if answer[-1] in stops else answer, end), False
