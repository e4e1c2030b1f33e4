"""A recipe: the whole pipeline in one YAML file, checked before anything runs."""

import re
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator

from models.architecture import ArchitectureConfig
from models.config import Config
from models.job import (
    AdapterConfig,
    InstructionOptions,
    MaskedLMOptions,
    PreferenceOptions,
    QuestionAnsweringOptions,
    RLHFOptions,
)
from models.objectives import OBJECTIVES, Family, Pretraining, Tuning
from models.trainer import TrainerConfig
from tasks.audit_config import AuditConfig
from tasks.budget_amount import parse_budget
from tasks.corpus import PrepareConfig
from tasks.cost import CostConfig
from tasks.encoding import TokenizerConfig
from tasks.in_context_tasks import InContextConfig
from tasks.mitigation import KINDS, Method, MitigationConfig
from tasks.policy import Kind
from tasks.recipe_file import explain, override_value, read_values
from tasks.retraining import RetrainingConfig
from tasks.robustness import RobustnessConfig
from tasks.schedule_config import ScheduleConfig
from tasks.sources import DataConfig
from tasks.transfer_config import TransferConfig

FOUNDATION = "foundation"
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


class PretrainConfig(Config):
    """The foundation: its objective, where it starts from, and its training."""

    objective: Pretraining = "causal_lm"
    """causal_lm predicts the next token (GPT); masked_lm hidden tokens from both sides (BERT)."""

    model: ArchitectureConfig = ArchitectureConfig()
    """How large a new model is; not read where there is a base."""

    base: str = ""
    """A Hugging Face directory, a model of the hub, or a registered one (`models:/starter-foundation@champion`), to
    start from with its own tokenizer; empty: a new model."""

    revision: str = Field("", pattern="^([0-9a-f]{40})?$")
    """The commit of a base from the hub."""

    train: TrainerConfig | None = None
    """Optimiser, schedule, batches and rhythm; empty: the base is the foundation as it is."""

    budget: str = Field(default="", exclude=True)
    """In place of size and train: `15 minutes`, `1e15 FLOPs`, or `2 EUR` with a price in `cost`; what is chosen for it
    stands in `artifacts/<recipe>/budget.json` and is kept until the budget changes."""

    masked_lm: MaskedLMOptions = MaskedLMOptions()
    """Options of masked_lm."""

    @model_validator(mode="after")
    def _starts_somewhere(self) -> Self:
        if self.budget:
            self._budget_alone()
        elif self.train is None and not self.base:
            raise ValueError("train is missing: without a base there is nothing to take as it is")
        wanted = "causal_lm" if self.model.family == "llama" else "masked_lm"
        if not self.base and self.objective != wanted:
            raise ValueError(f"model.family is {self.model.family}, which learns {wanted}, not {self.objective}")
        paired = self.masked_lm.next_sentence and self.objective == "masked_lm"
        if not self.base and paired and self.model.family != "bert":
            raise ValueError(f"masked_lm.next_sentence: expected false, {self.model.family} has no head for pairs")
        return self

    def _budget_alone(self) -> None:
        """Refuse what a budget chooses itself, and what it cannot choose for."""
        parse_budget(self.budget)
        if self.base or self.objective != "causal_lm":
            what = "base" if self.base else f"objective {self.objective}"
            raise ValueError(f"budget: is for a new causal_lm foundation, but there is {what}")
        given = sorted(self.model.model_fields_set - {"family", "context"})
        if self.train is not None or given:
            what = "train" if self.train is not None else f"model.{given[0]}"
            raise ValueError(f"budget: chooses size and training itself, expected no {what} beside it")

    @property
    def family(self) -> Family:
        """Return what the foundation's attention sees."""
        return "causal" if self.objective == "causal_lm" else "masked"


class AdaptConfig(Config):
    """The foundation, trained on with the text of a domain before the specialists start from it."""

    data: str
    """The domain's text: one of `data.datasets`, of kind text."""

    train: TrainerConfig
    """Optimiser and schedule; the learning rate is usually smaller than the foundation's."""


class SpecialistConfig(Config):
    """One specialist that is tuned from the foundation."""

    task: Tuning
    """classification: a text to a label; token_classification: entities; question_answering: an answer span;
    instruction: a request to an answer; preference: DPO on pairs of answers; reward: a model that scores answers;
    rlhf: answers that the reward model likes."""

    data: str
    """The name of its data set, one of `data.datasets`."""

    start: str = FOUNDATION
    """What it starts from: the foundation, or another specialist by its name."""

    train: TrainerConfig
    """Its own optimiser and schedule; the learning rate is usually smaller than the foundation's."""

    max_examples: int | None = Field(None, ge=1)
    """Train on so many examples only (a seeded choice, even over the labels); empty: on all."""

    max_new_tokens: int = Field(48, ge=1, le=4096)
    """instruction, preference, rlhf: tokens after which an answer is cut."""

    adapter: AdapterConfig | None = None
    """Train low-rank adapters (LoRA) and merge them; empty: all weights are trained."""

    question_answering: QuestionAnsweringOptions = QuestionAnsweringOptions()
    """Options of question_answering."""

    instruction: InstructionOptions = InstructionOptions()
    """Options of instruction."""

    preference: PreferenceOptions = PreferenceOptions()
    """Options of preference."""

    rlhf: RLHFOptions = RLHFOptions()
    """Options of rlhf."""

    reward: str = ""
    """rlhf: the specialist of task reward that scores the answers."""

    mitigation: MitigationConfig = MitigationConfig()
    """classification, instruction: what is done about what identity words have to do with the answer."""


class Recipe(Config):
    """A pipeline from sources to registered models."""

    name: str
    """Names the results: `data/<name>`, `artifacts/<name>`, the experiment and the registered models."""

    seed: int = Field(0, ge=0, lt=2**32)
    """Of every draw in training: initial weights, the order of batches, resampling."""

    launcher: str = "python"
    """What starts the training process; `torchrun --nproc-per-node 2` or `srun python` for several devices."""

    data: DataConfig
    """Sources of the pretraining text and of the specialists' data."""

    prepare: PrepareConfig = PrepareConfig()
    """Cleaning, deduplication, scrubbing, splits and the contamination check."""

    tokenizer: TokenizerConfig = TokenizerConfig()
    """Byte-level BPE, trained on the pretraining text."""

    pretrain: PretrainConfig
    """The foundation."""

    adapt: AdaptConfig | None = None
    """Continued pretraining on a domain's text; empty: none."""

    specialists: dict[str, SpecialistConfig] = {}
    """What is tuned from the foundation, by name."""

    audit: AuditConfig = AuditConfig()
    """The bias audits of every model."""

    robustness: RobustnessConfig = RobustnessConfig()
    """What classifiers are asked about negations."""

    in_context: InContextConfig | None = None
    """Tasks that the language models are asked by prompt alone, before and after their tuning; empty: none."""

    transfer: TransferConfig | None = None
    """What the foundation is worth to the specialists, over seeds and shares of their labels; empty: not measured."""

    retraining: RetrainingConfig = RetrainingConfig()
    """When the champions are trained again, and how."""

    policy: str = "mlflow/promotion.yaml"
    """The promotion policy that decides."""

    cost: CostConfig = CostConfig()
    """What turns the measured time into emissions and money."""

    schedule: ScheduleConfig | None = Field(default=None, exclude=True)
    """When `make up` runs the recipe again by itself; empty: never. No part of what a model is made from."""

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        for name in (self.name, *self.specialists):
            if not _SLUG.fullmatch(name):
                raise ValueError(f"{name!r} is no slug (lower-case letters, digits and '-')")
        if FOUNDATION in self.specialists:
            raise ValueError(f"specialists: {FOUNDATION!r} is the name of the foundation itself")
        if self.pretrain.budget:
            parse_budget(self.pretrain.budget).check(self.cost)
        for name, specialist in self.specialists.items():
            dataset = self.data.datasets.get(specialist.data)
            if dataset is None:
                known = ", ".join(sorted(self.data.datasets))
                raise ValueError(f"specialists.{name}.data: no data set {specialist.data!r}; there are {known}")
            info = OBJECTIVES[specialist.task]
            if dataset.kind != info.rows:
                raise ValueError(
                    f"specialists.{name}.data: {specialist.data!r} is of kind {dataset.kind}, expected {info.rows}"
                )
            if self.pretrain.family not in info.bases:
                raise ValueError(
                    f"specialists.{name}.task: {specialist.task} starts from a causal foundation, "
                    f"pretrain.objective is {self.pretrain.objective}"
                )
            self._check_start(name, specialist)
            self._check_mitigation(name, specialist)
        if self.adapt is not None:
            texts = [name for name, dataset in self.data.datasets.items() if dataset.kind == "text"]
            if self.adapt.data not in texts:
                known = ", ".join(sorted(texts))
                raise ValueError(f"adapt.data: {self.adapt.data!r} is no data set of kind text; there are {known}")
        classifiers = [name for name, own in self.specialists.items() if own.task == "classification"]
        for name in self.robustness.polarity:
            if name not in classifiers:
                known = ", ".join(classifiers) or "none"
                raise ValueError(f"robustness.polarity: {name!r} is no classifier of the recipe; there are {known}")
        twins = [name for name in self.specialists if self.has_control(name)]
        for name in self.transfer.specialists if self.transfer else []:
            if name not in twins:
                known = ", ".join(twins) or "none"
                raise ValueError(f"transfer.specialists: {name!r} has no twin from scratch; there are {known}")
        return self

    def _check_start(self, name: str, specialist: SpecialistConfig) -> None:
        """Refuse a specialist whose start or reward model is not listed before it."""
        before = list(self.specialists)[: list(self.specialists).index(name)]
        where = f"specialists.{name}"
        if specialist.start not in (FOUNDATION, *before):
            known = ", ".join((FOUNDATION, *before))
            raise ValueError(f"{where}.start: {specialist.start!r} is not listed before it; there are {known}")
        if specialist.start != FOUNDATION:
            started = self.specialists[specialist.start].task
            if OBJECTIVES[started].auto != "AutoModelForCausalLM":
                raise ValueError(f"{where}.start: {specialist.start!r} is a {started} model, expected a language model")
        rewards = [other for other in before if self.specialists[other].task == "reward"]
        if specialist.task == "rlhf" and specialist.reward not in rewards:
            known = ", ".join(rewards) or "none"
            raise ValueError(
                f"{where}.reward: {specialist.reward!r} is no specialist of task reward before it; there are {known}"
            )
        if specialist.task != "rlhf" and specialist.reward:
            raise ValueError(f"{where}.reward: is for task rlhf, but this one is {specialist.task}")

    def _check_mitigation(self, name: str, specialist: SpecialistConfig) -> None:
        method, known = specialist.mitigation.method, KINDS.get(specialist.task, ())
        if method not in ("none", *known) and not (method == "auto" and known):
            raise ValueError(
                f"specialists.{name}.mitigation.method: {method} is not for {specialist.task}; "
                f"there are {', '.join(('none', 'auto', *known) if known else ('none',))}"
            )

    def mitigations(self, model: str) -> list[Method]:
        """Return the mitigations that are tried on a specialist, the cheapest first; with ``auto`` not all may be."""
        specialist = self.specialists.get(model)
        if specialist is None:
            return []
        method = specialist.mitigation.method
        return [name for name in KINDS.get(specialist.task, ()) if method in (name, "auto")]

    def models(self) -> list[str]:
        """Return the names of all models, the foundation first."""
        return [FOUNDATION, *self.specialists]

    def objective(self, model: str) -> str:
        """Return what a model learns, a name in the table of objectives."""
        return self.pretrain.objective if model == FOUNDATION else self.specialists[model].task

    def kind(self, model: str) -> Kind:
        """Return the part of the promotion policy that a model is held against."""
        if model != FOUNDATION:
            return self.specialists[model].task
        return "foundation" if self.pretrain.family == "causal" else "masked_foundation"

    def has_control(self, model: str) -> bool:
        """Return whether a specialist has a twin from scratch."""
        return OBJECTIVES[self.specialists[model].task].control

    def compared(self) -> list[str]:
        """Return the specialists that are compared with training from scratch over seeds."""
        if self.transfer is None:
            return []
        return [name for name in self.transfer.specialists or self.specialists if self.has_control(name)]

    def beside(self, model: str) -> str:
        """Return what a specialist is compared with: its twin from scratch, or the model that it was before."""
        return "from_scratch" if self.has_control(model) else "before"

    def needs(self, model: str) -> list[str]:
        """Return the models that must be there before ``model``: its start, and the one that scores its answers."""
        specialist = self.specialists.get(model)
        return [name for name in (specialist.start, specialist.reward) if name] if specialist else []

    def registered_name(self, model: str) -> str:
        """Return the name of a model in the registry."""
        return f"{self.name}-{model}"


def step_of(step: str, model: str, variant: str | None = None) -> str:
    """Return the name of a step of a model, or of a variant of it: mitigated by a method, or one trial of many."""
    return f"{step}/{model}+{variant}" if variant else f"{step}/{model}"


def load_recipe(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Read a recipe and apply ``dotted.key=value`` overrides, whose values are YAML.

    A recipe may start with ``extends: other.yaml`` (beside it) and state only what differs; null takes a section,
    a data set or a specialist of the other one away.

    Raises:
        ValueError: one line that names the file, the field and what was expected.
    """
    values = read_values(Path(path), ())
    for override in overrides:
        override_value(values, override)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"{path}: {explain(error, Recipe)}") from None
