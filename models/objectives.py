"""The table of objectives: what a model can learn, from which rows, and how the result is loaded again.

An objective is one file here, `models/<name>.py`, with a `prepare(job, tokenizer, device) -> Workload`, and one
line in this table. Light to import: the command line reads it without torch.
"""

from typing import Literal, NamedTuple, get_args

Pretraining = Literal["causal_lm", "masked_lm"]
"""Objectives of a foundation, learnt from the corpus."""

Tuning = Literal[
    "classification", "token_classification", "question_answering", "instruction", "preference", "reward", "rlhf"
]
"""Objectives of a specialist, learnt from rows."""

Family = Literal["causal", "masked"]
"""What a foundation's attention sees: what came before, or both sides."""


class ObjectiveInfo(NamedTuple):
    """What the pipeline knows of an objective."""

    rows: str
    """Kind of the data set that it learns from."""
    auto: str
    """The class of transformers that loads the trained model."""
    bases: tuple[Family, ...] = ("causal", "masked")
    """Foundations that it can start from."""
    control: bool = True
    """Whether a twin from random weights tells what the foundation is worth."""


OBJECTIVES: dict[str, ObjectiveInfo] = {
    "causal_lm": ObjectiveInfo("text", "AutoModelForCausalLM", ("causal",)),
    "masked_lm": ObjectiveInfo("text", "AutoModelForPreTraining", ("masked",)),
    "classification": ObjectiveInfo("classification", "AutoModelForSequenceClassification"),
    "token_classification": ObjectiveInfo("token_classification", "AutoModelForTokenClassification"),
    "question_answering": ObjectiveInfo("question_answering", "AutoModelForQuestionAnswering"),
    "instruction": ObjectiveInfo("instruction", "AutoModelForCausalLM", ("causal",)),
    "preference": ObjectiveInfo("preference", "AutoModelForCausalLM", ("causal",), control=False),
    "reward": ObjectiveInfo("preference", "AutoModelForSequenceClassification", ("causal",), control=False),
    "rlhf": ObjectiveInfo("preference", "AutoModelForCausalLM", ("causal",), control=False),
}
"""Every objective by name. An objective without a control improves a model that was tuned before: its `before`
takes the control's place among the baselines."""

assert set(OBJECTIVES) == {*get_args(Pretraining), *get_args(Tuning)}
