"""A trained model, loaded for scoring: what audits and assessments call, whatever its head."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.job import QuestionAnsweringOptions

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from models.generation import Continuation


class Unscorable(ValueError):
    """A model that cannot be asked in some way; the message says why, without a file."""


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
        return [made.text for made in self.answers(rows, max_new_tokens)]

    def answers(self, rows: Sequence[dict[str, Any]], max_new_tokens: int) -> "list[Continuation]":
        """Return the greedy answer to each instruction row, with its length."""
        from models.chat import render
        from models.generation import continuations

        prompts = [render(row["instruction"], row["input"]) for row in rows]
        return continuations(self.network, self.tokenizer, prompts, max_new_tokens)

    def score(self, pairs: list[tuple[str, str]]) -> list[float]:
        """Return log P(continuation | prefix) of each pair, in nats."""
        from models.scoring import continuation_log_probabilities

        return continuation_log_probabilities(self.network, self.tokenizer, pairs)

    def fill(self, items: list[tuple[str, str, str]]) -> list[float]:
        """Return log P(word | before [MASK] after) of each (before, word, after), in nats, of a masked model.

        Raises Unscorable for a word of several tokens and a text beyond the context.
        """
        from models.masked_scoring import fill_log_probabilities

        return _asked(lambda: fill_log_probabilities(self.network, self.tokenizer, items))

    def pseudo_score(self, texts: list[str]) -> list[float]:
        """Return the pseudo-log-likelihood of each text in nats, of a masked model; Unscorable as `fill`."""
        from models.masked_scoring import pseudo_log_likelihoods

        return _asked(lambda: pseudo_log_likelihoods(self.network, self.tokenizer, texts))

    def score_pairs(self, pairs: list[tuple[str, str]]) -> "np.ndarray":
        """Return the log-likelihood of the tokens that two sentences share, [pairs, 2], in nats."""
        from models.heads import sees_both_sides
        from models.pair_scoring import causal_pair_scores, masked_pair_scores

        score = masked_pair_scores if sees_both_sides(self.network) else causal_pair_scores
        return score(self.network, self.tokenizer, pairs)

    def embed(self, texts: list[str]) -> "np.ndarray":
        """Return the mean of the last hidden states over each text's tokens, [texts, width]."""
        from models.scoring import mean_hidden_states

        return mean_hidden_states(self.network, self.tokenizer, texts)

    def draw(self, prompts: list[str], samples: int, max_new_tokens: int, seed: int) -> list[list[str]]:
        """Return so many answers to each prompt (a whole text with its markers), drawn at temperature 1.

        Raises Unscorable where the answer alone fills the context.
        """
        from models.generation import generate
        from models.sampling import Sampling

        repeated = [prompt for prompt in prompts for _ in range(samples)]
        sampling = Sampling(temperature=1.0, seed=seed)
        drawn = _asked(
            lambda: generate(self.network, self.tokenizer, repeated, max_new_tokens, batch_size=256, sampling=sampling)
        )
        return [drawn[start : start + samples] for start in range(0, len(drawn), samples)]

    @property
    def label_names(self) -> list[str]:
        """Return the labels in the order of the probabilities' columns."""
        names = self.network.config.id2label or {}
        return [str(names[number]) for number in sorted(names)]  # type: ignore[index]


def _asked(ask: Callable[[], Any]) -> Any:
    """Return what a model's own functions answer; what they cannot score is no user's mistake."""
    try:
        return ask()
    except ValueError as error:
        raise Unscorable(str(error)) from error


def random_twin(model: TrainedModel, seed: int) -> TrainedModel:
    """Return a model of the same architecture with random weights, which knows nothing; the seeds' own draws."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        twin: Any = type(model.network)(model.network.config)
    return TrainedModel(twin.to(model.network.device).eval(), model.tokenizer)


def load(directory: Path, objective: str) -> TrainedModel:
    """Load a model directory with the head of its objective."""
    import torch
    import transformers
    from transformers.utils.logging import disable_progress_bar

    from models.bases import head_class, load_tokenizer

    disable_progress_bar()
    config = transformers.AutoConfig.from_pretrained(directory, trust_remote_code=False)
    head: Any = getattr(transformers, head_class(objective, "BertForPreTraining" in (config.architectures or [])))
    network: Any = head.from_pretrained(directory, use_safetensors=True, trust_remote_code=False, local_files_only=True)
    tokenizer = load_tokenizer(str(directory))
    return TrainedModel(network.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer)
