"""What the heads on texts share, whatever the base: does it see both sides, and how its input is laid out."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from models.data import pad_right
from models.module import Batch, Counts, Objective
from models.trainer import TrainerConfig


def sees_both_sides(model: PreTrainedModel) -> bool:
    """Return whether the attention sees what comes after, as that of BERT, RoBERTa and ModernBERT does.

    Attention layers of transformers say by `is_causal` whether they hide it; those of pure encoders may not have it.
    """
    return not any(getattr(module, "is_causal", False) for module in model.modules())


def special_id(tokenizer: PreTrainedTokenizerFast, name: str) -> int:
    """Return the id of a special token (`cls_token` for example); ValueError where the tokenizer has none."""
    number = getattr(tokenizer, f"{name}_id")
    if number is None:
        raise ValueError(f"tokenizer: {tokenizer.name_or_path} has no {name}, which this head of the base needs")
    return int(number)


def frame(tokenizer: PreTrainedTokenizerFast, both_sides: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids before and after a text: [CLS] and [SEP] around an encoder's (Devlin et al. 2019), else none."""
    if not both_sides:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.array([special_id(tokenizer, "cls_token")]), np.array([special_id(tokenizer, "sep_token")])


def enclose(
    texts: list[np.ndarray], tokenizer: PreTrainedTokenizerFast, both_sides: bool, context: int
) -> list[np.ndarray]:
    """Return the ids as the model reads them: cut so that they and their frame have at most `context` tokens.

    A text without tokens is the end-of-text token where there is no frame, since a model reads at least one.
    """
    before, after = frame(tokenizer, both_sides)
    room = context - len(before) - len(after)
    framed = [np.concatenate([before, ids[:room], after]) for ids in texts]
    return [ids if len(ids) else np.array([special_id(tokenizer, "eos_token")]) for ids in framed]


def padded(ids: list[np.ndarray], pad_id: int) -> Batch:
    """Return ids [batch, longest] padded on the right and lengths [batch], int64."""
    return {"ids": pad_right(ids, pad_id), "lengths": torch.tensor([len(row) for row in ids])}


def real(batch: Batch) -> Tensor:
    """Return which positions are no padding, boolean [batch, longest]."""
    return torch.arange(batch["ids"].shape[1], device=batch["ids"].device) < batch["lengths"][:, None]


def run_head(model: PreTrainedModel, batch: Batch, both_sides: bool) -> Any:
    """Return what the model's own forward gives for a batch of `padded`.

    An encoder gets the mask of the padding, and segment ids where it knows two segments and the batch has `seconds`
    [batch], the places where the second ones begin. A decoder's attention never looks at padding on the right.
    """
    inputs: dict[str, Tensor] = {"input_ids": batch["ids"]}
    if both_sides:
        mask = real(batch)
        inputs["attention_mask"] = mask.long()
        if "seconds" in batch and getattr(model.config, "type_vocab_size", 0) > 1:
            places = torch.arange(mask.shape[1], device=mask.device)
            inputs["token_type_ids"] = (mask & (places >= batch["seconds"][:, None])).long()
    return model(**inputs)


class Head(Objective):
    """A head on a base of either kind; an objective adds `loss_sum` and what its targets are."""

    def __init__(self, model: PreTrainedModel, config: TrainerConfig, total_steps: int, device: str) -> None:
        super().__init__(model.train(), config, total_steps, device)
        self.both_sides = sees_both_sides(model)
        # The lean form ends at the hidden states; here the model's own forward runs, head and dropout included.
        self.lean = False

    def targets(self, batch: Batch) -> int:
        """Return the number of predictions that have a loss: one for each text, unless told otherwise."""
        return len(batch["lengths"])

    def count(self, batch: Batch) -> Counts:
        """Return targets, real tokens, and positions with padding."""
        return Counts(self.targets(batch), int(batch["lengths"].sum()), batch["ids"].numel())
