"""A trained model, loaded for scoring: what audits and assessments call, whatever its head."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


@dataclass(frozen=True)
class TrainedModel:
    """A Hugging Face model and its tokenizer, in float32, on the GPU where there is one."""

    network: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerFast"

    def classify(self, texts: list[str]) -> "tuple[list[str], np.ndarray]":
        """Return the label of each text and the probabilities, shape (texts, labels)."""
        from models.scoring import classify

        return classify(self.network, self.tokenizer, texts)

    def answer(self, rows: Sequence[dict[str, Any]], max_new_tokens: int) -> list[str]:
        """Return the greedy answer to each instruction row."""
        from models.chat import render
        from models.generation import generate

        prompts = [render(row["instruction"], row["input"]) for row in rows]
        return generate(self.network, self.tokenizer, prompts, max_new_tokens)

    def score(self, pairs: list[tuple[str, str]]) -> list[float]:
        """Return log P(continuation | prefix) of each pair, in nats."""
        from models.scoring import continuation_log_probabilities

        return continuation_log_probabilities(self.network, self.tokenizer, pairs)

    @property
    def label_names(self) -> list[str]:
        """Return the labels in the order of the probabilities' columns."""
        names = self.network.config.id2label or {}
        return [str(names[number]) for number in sorted(names)]  # type: ignore[index]


def load(directory: Path, task: str) -> TrainedModel:
    """Load a model directory for ``task``: a classifier's head or a language model's."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    head = AutoModelForSequenceClassification if task == "classification" else AutoModelForCausalLM
    network: Any = head.from_pretrained(directory, use_safetensors=True, trust_remote_code=False)
    tokenizer: Any = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    return TrainedModel(network.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer)
