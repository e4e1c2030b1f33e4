"""What a recipe asks of a model by prompt alone: tasks, their rows, and how a row is put into words."""

import re
from string import Formatter
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from models.config import Config

PromptKind = Literal["completion", "choice", "classification", "minimal_pairs", "generation", "lm_eval"]
Metric = Literal["exact_match", "chrf", "rouge_l"]

_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class KindInfo(NamedTuple):
    """What the rows of a kind of task hold, and how they are asked by default."""

    fields: tuple[str, ...]
    """Fields that a row must have."""
    asked: str
    """The field that the template shows."""
    template: str
    """The prompt of one row."""


KINDS: dict[PromptKind, KindInfo] = {
    "completion": KindInfo(("text",), "text", "{text}"),
    "choice": KindInfo(("question", "choices", "label"), "question", "Question: {question}\nAnswer:"),
    "classification": KindInfo(("text", "label"), "text", "{text}\nLabel:"),
    "minimal_pairs": KindInfo(("good", "bad"), "good", "{good}"),
    "generation": KindInfo(("source", "target"), "source", "{source}\n"),
    "lm_eval": KindInfo((), "", ""),
}
"""Every kind by name. A completion's answer is its field `answer`, or else the last word of its text; a task file of
lm-eval says itself what its rows hold."""


class InContextTask(Config):
    """One task, given to a causal model in words, with and without solved examples (Brown et al. 2020)."""

    kind: PromptKind
    """completion: the words that follow (text, and answer or the text's last word); choice: one of several answers
    (question, choices, label: its number); classification: a text's label (text, label); minimal_pairs: which of
    two sentences is likelier (good, bad); generation: a text to a text (source, target); lm_eval: whatever a task file
    of lm-eval (YAML, with its rows in files beside it) asks."""

    starter: str = ""
    """A table of the starter: facts, questions, sentiment, acceptability, translation or summaries."""

    paths: list[str] = []
    """Or local files (jsonl, json, csv, tsv, parquet) under the recipe's data root: the rows that are scored. For
    lm_eval the one task file."""

    shot_paths: list[str] = []
    """Files that the examples are drawn from; empty: a part of `paths` is set aside for them and never scored."""

    columns: dict[str, str] = {}
    """Our field to their column, e.g. {"text": "sentence"}; a field that is not named keeps its own name."""

    template: str = ""
    """The prompt, with the row's {text}, {question} or {source} in it; empty: a plain one for the kind."""

    labels: dict[str, str] = {}
    """classification: each label and the word that stands for it, e.g. {"0": "negative", "1": "positive"}."""

    metric: Metric = "rouge_l"
    """generation: the score that leads; translation is best judged by chrf. The others stand beside it."""

    max_new_tokens: int = Field(32, ge=1, le=1024)
    """generation: tokens after which an answer is cut; it ends at the end of a line anyhow."""

    shots: list[int] = Field([0, 4], min_length=1)
    """Numbers of solved examples before each row; every number is a score of its own."""

    limit: int = Field(200, ge=2)
    """Rows that are scored, a seeded choice."""

    seed: int = Field(0, ge=0, lt=2**32)
    """Of the choice of rows and examples."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if bool(self.starter) == bool(self.paths):
            raise ValueError("starter and paths: expected exactly one of them")
        if self.shot_paths and not self.paths:
            raise ValueError("shot_paths: are for a task on paths, a starter table brings its own examples")
        if self.kind == "lm_eval":
            self._file_alone()
        info = KINDS[self.kind]
        unknown = sorted(set(self.columns) - {*info.fields, *(["answer"] if self.kind == "completion" else [])})
        if unknown:
            raise ValueError(f"columns: {unknown[0]!r} is no field of kind {self.kind} {list(info.fields)}")
        if self.labels and self.kind != "classification":
            raise ValueError(f"labels: are for kind classification, but this one is {self.kind}")
        if len(set(self.labels.values())) < len(self.labels):
            raise ValueError("labels: two labels have one word")
        if any(shots < 0 for shots in self.shots) or len(set(self.shots)) < len(self.shots):
            raise ValueError(f"shots: expected different numbers from 0 on, got {self.shots}")
        if self.template:
            if self.kind == "minimal_pairs":
                raise ValueError("template: minimal_pairs has none, its sentences stand as they are")
            try:
                named = [name for _, name, _, _ in Formatter().parse(self.template) if name is not None]
            except ValueError as error:
                raise ValueError(f"template: {error}") from None
            if set(named) != {info.asked}:
                raise ValueError(f"template: expected {{{info.asked}}} and no other field, got {named}")
        return self

    def _file_alone(self) -> None:
        """Refuse what a task file says itself."""
        if len(self.paths) != 1 or not self.paths[0].endswith((".yaml", ".yml")):
            raise ValueError(f"paths: expected one task file of lm-eval (.yaml), got {self.paths}")
        beside = sorted(self.model_fields_set - {"kind", "paths", "shots", "limit", "seed"})
        if beside:
            raise ValueError(f"{beside[0]}: the task file of lm-eval says that itself, expected nothing beside it")

    def prompt(self, asked: str) -> str:
        """Return the prompt of one row, without examples."""
        return (self.template or KINDS[self.kind].template).format(**{KINDS[self.kind].asked: asked})


class InContextConfig(Config):
    """What causal models are asked by prompt alone, before and after tuning alike."""

    tasks: dict[str, InContextTask] = Field(min_length=1)
    """The tasks by name."""

    @model_validator(mode="after")
    def _names_are_slugs(self) -> Self:
        for name in self.tasks:
            if not _SLUG.fullmatch(name):
                raise ValueError(f"tasks: {name!r} is no slug (lower-case letters, digits, '-' and '_')")
        return self
