"""One step without Prefect, after what it needs: what `dvc repro` and the command line call."""

from functools import cached_property

from tasks.assess import assess
from tasks.audit import audit
from tasks.finetune import finetune
from tasks.ingest import ingest
from tasks.prepare import prepare
from tasks.pretrain import pretrain
from tasks.promote import promote
from tasks.receipts import Receipt
from tasks.recipe import FOUNDATION, Recipe
from tasks.report import Result, report
from tasks.scratch import scratch
from tasks.tokenizer import tokenizer


class Steps:
    """The steps of a recipe by name; each is the function that the flows call, without its Prefect task."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def receipt(self, step: str, model: str = "") -> Receipt:
        """Return the receipt of ``step`` (of ``model``), computing it and what it needs where not done."""
        return getattr(self, step) if not model else getattr(self, step)(model)

    @cached_property
    def ingest(self) -> Receipt:
        return ingest.fn(self.recipe)

    @cached_property
    def prepare(self) -> Receipt:
        return prepare.fn(self.recipe, self.ingest)

    @cached_property
    def tokenizer(self) -> Receipt:
        return tokenizer.fn(self.recipe, self.prepare)

    @cached_property
    def pretrain(self) -> Receipt:
        return pretrain.fn(self.recipe, self.tokenizer)

    @cached_property
    def report(self) -> Receipt:
        results = {
            model: Result(
                self.trained(model), self.control(model), self.assess(model), self.audit(model), self.promote(model)
            )
            for model in self.recipe.models()
        }
        return report.fn(self.recipe, self.ingest, self.prepare, self.tokenizer, results)

    def finetune(self, model: str) -> Receipt:
        return finetune.fn(self.recipe, model, self.prepare, self.tokenizer, self.pretrain)

    def scratch(self, model: str) -> Receipt:
        return scratch.fn(self.recipe, model, self.prepare, self.tokenizer)

    def trained(self, model: str) -> Receipt:
        """Return the receipt that holds the model's weights."""
        return self.pretrain if model == FOUNDATION else self.finetune(model)

    def control(self, model: str) -> Receipt | None:
        """Return the receipt of the model's twin from scratch; a foundation has none."""
        return None if model == FOUNDATION else self.scratch(model)

    def assess(self, model: str) -> Receipt:
        return assess.fn(
            self.recipe, model, self.prepare, self.tokenizer, self.trained(model), self.control(model)
        )

    def audit(self, model: str) -> Receipt:
        return audit.fn(self.recipe, model, self.prepare, self.trained(model), self.assess(model))

    def promote(self, model: str) -> Receipt:
        return promote.fn(
            self.recipe,
            model,
            self.prepare,
            self.tokenizer,
            self.pretrain,
            self.trained(model),
            self.assess(model),
            self.audit(model),
        )
