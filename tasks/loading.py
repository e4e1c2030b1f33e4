"""A trained model, loaded for scoring: what audits and assessments call, whatever its head."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.job import QuestionAnsweringOptions

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

    def tag(self, rows: Sequence[dict[str, Any]]) -> list[list[str]]:
        """Return the tag of each word of each row's tokens."""
        from models.token_classification import tag

        return tag(self.network, self.tokenizer, [row["tokens"] for row in rows])

    def find_answers(
        self, rows: Sequence[dict[str, Any]], options: QuestionAnsweringOptions | None = None
    ) -> list[str]:
        """Return the span of each row's context that answers its question."""
        from models.question_answering import find_answers

        return find_answers(self.network, self.tokenizer, list(rows), options or QuestionAnsweringOptions())

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


def load(directory: Path, objective: str) -> TrainedModel:
    """Load a model directory with the head of its objective."""
    import torch
    import transformers
    from transformers.utils.logging import disable_progress_bar

    from models.bases import head_class, load_tokenizer

    disable_progress_bar()
    config = transformers.AutoConfig.from_pretrained(directory, trust_remote_code=False)
    head: Any = getattr(transformers, head_class(objective, "BertForPreTraining" in (config.architectures or [])))
    network: Any = head.from_pretrained(directory, use_safetensors=True, trust_remote_code=False)
    tokenizer = load_tokenizer(str(directory))
    return TrainedModel(network.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer)
