"""A recipe: the whole pipeline in one YAML file, checked before anything runs."""

import difflib
import re
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from models.architecture import ArchitectureConfig
from models.config import Config
from models.trainer import TrainerConfig
from tasks.audits.counterfactual import CounterfactualConfig
from tasks.audits.occupation_pronoun import OccupationPronounConfig
from tasks.corpus import PrepareConfig
from tasks.encoding import TokenizerConfig
from tasks.sources import DataConfig

FOUNDATION = "foundation"
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


class PretrainConfig(Config):
    """The foundation: its architecture and its training."""

    model: ArchitectureConfig = ArchitectureConfig()
    """How large it is."""

    train: TrainerConfig
    """Optimiser, schedule, batches and rhythm."""


class SpecialistConfig(Config):
    """One specialist that is tuned from the foundation."""

    task: Literal["classification", "instruction"]
    """classification: a text to a label; instruction: a request to an answer, learnt on the answer alone."""

    data: str
    """The name of its data set, one of `data.datasets`."""

    train: TrainerConfig
    """Its own optimiser and schedule; the learning rate is usually smaller than the foundation's."""

    max_examples: int | None = Field(None, ge=1)
    """Train on so many examples only (a seeded choice, even over the labels); empty: on all."""

    max_new_tokens: int = Field(48, ge=1, le=4096)
    """instruction: tokens after which an answer is cut."""


class AuditConfig(Config):
    """What the models are audited for, and how exactly."""

    occupation_pronoun: OccupationPronounConfig = OccupationPronounConfig()
    """Foundation and instruction models: who is "he" and who is "she" after an occupation."""

    counterfactual: CounterfactualConfig = CounterfactualConfig()
    """Classifiers: does the answer change when he becomes she?"""


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

    specialists: dict[str, SpecialistConfig] = {}
    """What is tuned from the foundation, by name."""

    audit: AuditConfig = AuditConfig()
    """The bias audits of every model."""

    policy: str = "mlflow/promotion.yaml"
    """The promotion policy that decides."""

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        for name in (self.name, *self.specialists):
            if not _SLUG.fullmatch(name):
                raise ValueError(f"{name!r} is no slug (lower-case letters, digits and '-')")
        if FOUNDATION in self.specialists:
            raise ValueError(f"specialists: {FOUNDATION!r} is the name of the foundation itself")
        for name, specialist in self.specialists.items():
            dataset = self.data.datasets.get(specialist.data)
            if dataset is None:
                known = ", ".join(sorted(self.data.datasets))
                raise ValueError(f"specialists.{name}.data: no data set {specialist.data!r}; there are {known}")
            if dataset.kind != specialist.task:
                raise ValueError(
                    f"specialists.{name}.data: {specialist.data!r} is of kind {dataset.kind}, "
                    f"expected {specialist.task}"
                )
        return self

    def models(self) -> list[str]:
        """Return the names of all models, the foundation first."""
        return [FOUNDATION, *self.specialists]

    def registered_name(self, model: str) -> str:
        """Return the name of a model in the registry."""
        return f"{self.name}-{model}"


def load_recipe(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Read a recipe and apply ``dotted.key=value`` overrides, whose values are YAML.

    A recipe may start with ``extends: other.yaml`` (beside it) and state only what differs.

    Raises:
        ValueError: one line that names the file, the field and what was expected.
    """
    values = _read(Path(path), ())
    for override in overrides:
        _override(values, override)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"{path}: {_explain(error)}") from None


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path in seen:
        raise ValueError(f"{path}: extends itself by way of {seen[-1]}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ValueError(f"{path}:{where} is not YAML ({problem})") from None
    except RecursionError:
        raise ValueError(f"{path}: is nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected named fields (name, data, pretrain, ...), got {type(values).__name__}")
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ValueError(f"{path}: extends: expected a file name, got {base!r}")
    return _merge(_read(path.parent / base, (*seen, path)), values)


def _merge(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``own`` laid over it, mapping by mapping; lists and values are replaced."""
    merged = dict(base)
    for name, value in own.items():
        below = merged.get(name)
        merged[name] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _override(values: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise ValueError(f"{override!r}: expected dotted.key=value, pretrain.train.steps=100 for example")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(f"{override!r}: {text!r} is not a YAML value") from None
    *parents, last = dotted.split(".")
    place = values
    for name in parents:
        below = place.setdefault(name, {})
        if not isinstance(below, dict):
            raise ValueError(f"{override!r}: {name} has no fields of its own")
        place = below
    place[last] = value


def _explain(error: ValidationError) -> str:
    """Return the first fault of a recipe in one line: field, what is wrong, and a near name for a typo."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), _fields_at(first["loc"][:-1]), n=1)
        return f"{where}: there is no such field" + (f"; did you mean {near[0]}?" if near else "")
    if first["type"] == "missing":
        return f"{where}: is missing"
    if first["type"] == "value_error":
        return f"{where}: {message}" if where else message
    return f"{where}: {message[0].lower()}{message[1:]}, got {first['input']!r:.80}"


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    """Return the names of the fields of the config at ``location`` of a recipe."""
    at: Any = Recipe
    for part in location:
        if isinstance(at, type) and issubclass(at, Config):
            field = at.model_fields.get(str(part))
            at = field.annotation if field else None
        else:  # a list or a mapping of configs: its last argument is what it holds
            arguments = getattr(at, "__args__", ())
            at = arguments[-1] if arguments else None
    return list(at.model_fields) if isinstance(at, type) and issubclass(at, Config) else []
