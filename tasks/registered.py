"""A registered version with what was kept of it: evidence, assessment item by item, recipe, test set."""

import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tasks import registry, tracking
from tasks.assess import ITEMS, PREDICTIONS, SCORES
from tasks.decide import Evidence
from tasks.lineage import PREFIX
from tasks.paired import Terms, read_items
from tasks.promote import DECISION, RECIPE
from tasks.readers import read_rows
from tasks.receipts import RECEIPT, Part, Receipt
from tasks.recipe import FOUNDATION, load_recipe
from tasks.report_words import listed
from tasks.workspace import file_digest, step_directory, text_digest

PLACES = ("out", "checkpoints", "spool", "train", "valid", "tokens", "tokenizer", "base", "reward")
"""Parameters of a run that say where something lies, and nothing of what it is."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Assessed:
    """What a model reached on a test set."""

    scores: dict[str, Row]
    """Score -> `value` and, where they are known, the ends of its interval `low` and `high`."""
    terms: dict[str, Terms] = field(default_factory=dict)
    """Its sums item by item; empty where they were not kept."""
    answers: dict[str, Row] = field(default_factory=dict)
    """Id of a row -> its line of the predictions; empty for a foundation, and where they were not kept."""
    labels: list[str] = field(default_factory=list)
    """The classes that it can answer, where it is a classifier."""
    again: bool = False
    """Whether it was assessed for this comparison, not for its promotion."""


@dataclass(frozen=True)
class Registered:
    """One version of the registry."""

    name: str
    version: str
    run_id: str
    aliases: tuple[str, ...]
    lineage: dict[str, str]
    """What its tags say of data, weights, code and cost."""
    evidence: Evidence

    @property
    def slug(self) -> str:
        """Return its name for a directory."""
        return f"{self.name}.{self.version}"

    @property
    def model(self) -> str:
        """Return its name in its recipe."""
        return self.name.removeprefix(f"{self.lineage['recipe']}-")

    @cached_property
    def recipe(self) -> Row | None:
        """Return the recipe that it came of, every field resolved; None where it was not kept."""
        kept = self._kept(RECIPE, "recipe_digest")
        return None if kept is None else json.loads((kept / "recipe.json").read_text(encoding="utf-8"))

    def settings(self) -> Row | None:
        """Return its recipe as one level of names, of the specialists its own alone; None where it was not kept."""
        if self.recipe is None:
            return None
        own = {key: value for key, value in self.recipe.items() if key != "specialists"}
        specialist = self.recipe["specialists"].get(self.model)
        return tracking.flatten(own | ({"specialist": specialist} if specialist else {}))

    def parameters(self) -> Row:
        """Return what its training was given, without the places of files."""
        return {name: value for name, value in tracking.params(self.run_id).items() if name not in PLACES}

    def assessed(self) -> Assessed:
        """Return its own assessment; the bare scores where no more was kept."""
        kept = self._kept("assess", "assessment_digest")
        if kept is None:
            return Assessed({name: {"value": value} for name, value in self.evidence.metrics.items()})
        found = json.loads((kept / SCORES).read_text(encoding="utf-8"))["model"]
        items, answers = kept / ITEMS, kept / PREDICTIONS
        return Assessed(
            scores=found["scores"],
            terms=read_items(items)["model"] if items.exists() else {},
            answers={row["id"]: row for row in read_rows(answers)} if answers.exists() else {},
            labels=found["labels"],
        )

    def held_out(self) -> Part | None:
        """Return the prepared data whose test split it was assessed on; None where that is no longer at hand."""
        data = "corpus"
        if self.model != FOUNDATION:
            if self.recipe is None:
                return None
            data = self.recipe["specialists"][self.model]["data"]
        path = step_directory(self.lineage["recipe"], "prepare") / RECEIPT
        try:
            prepared = Receipt.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return None
        test = prepared.directory / data / "test.jsonl"
        if not test.is_file():
            return None
        part, digest = prepared.part(data), file_digest(test)
        if self.model == FOUNDATION:
            # Its test set is one of tokens: what is known of its text is the digest of the whole corpus.
            known = part.digest == self.lineage["corpus_digest"]
            return part if known and digest == prepared.files[f"{data}/test.jsonl"] else None
        judge = self.lineage.get("reward_weights_digest")
        asked = digest if judge is None else text_digest(f"{digest} {judge}")
        return part if asked == self.evidence.test_digest else None

    def _kept(self, step: str, digest: str) -> Path | None:
        """Return the directory of a step's results that its run keeps under their digest."""
        return tracking.fetch(self.run_id, registry.evidence_name(step, self.lineage.get(digest, "")))


def find(reference: str) -> Registered:
    """Return the version that `name` (its champion), `name@alias`, `name/version` or `recipe.yaml:model` means.

    The last one means the version that the recipe's promote step made of the model in this workspace.
    Raises ValueError in one line that says what there is.
    """
    recipe, colon, model = reference.rpartition(":")
    found = registry.find_version(_decided(recipe, model) if colon else reference)
    if found is None:
        raise ValueError(f"{reference}: no such registered version; there is {_there(reference)}")
    if registry.EVIDENCE not in found.tags:
        raise ValueError(f"{found.name}/{found.version}: was registered without evidence, by something else")
    return Registered(
        name=found.name,
        version=str(found.version),
        run_id=str(found.run_id),
        aliases=tuple(found.aliases),
        lineage={key.removeprefix(PREFIX): value for key, value in found.tags.items() if key != registry.EVIDENCE},
        evidence=Evidence.model_validate_json(found.tags[registry.EVIDENCE]),
    )


def _there(reference: str) -> str:
    """Return the versions of the model that was asked for, or the models where there is none of that name."""
    known = registry.versions()
    names = [name for one in known for name in (one.reference, *(f"{one.name}@{alias}" for alias in one.aliases))]
    own = [name for name in names if re.split("[@/]", name)[0] == re.split("[@/]", reference)[0]]
    return listed(own or sorted({one.name for one in known})) or "nothing registered yet"


def _decided(path: str, model: str) -> str:
    """Return `name/version` of what a recipe made of a model."""
    recipe = load_recipe(path)
    if model not in recipe.models():
        raise ValueError(f"{model!r}: no such model in {path}; there are {', '.join(recipe.models())}")
    decision = step_directory(recipe.name, f"promote/{model}") / DECISION
    if not decision.is_file():
        raise ValueError(f"{path}:{model}: was not decided on in this workspace ({decision} is missing)")
    version = json.loads(decision.read_text(encoding="utf-8"))["version"]
    return f"{recipe.registered_name(model)}/{version}"
